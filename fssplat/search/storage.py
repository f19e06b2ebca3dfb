"""The database of studies: its address, how it is opened, its locks, and drivers' heartbeats."""

import contextlib
import hashlib
import os
import sqlite3
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fssplat.common.databases import (
    CONNECT_S,
    Contents,
    check_address,
    contents_of,
    revisions,
    sqlite_file,
    with_driver,
)
from fssplat.common.errors import InputError, first_line
from fssplat.common.locks import lock
from fssplat.common.passwords import hidden, require_password
from fssplat.common.printing import command_line
from fssplat.results.files import try_to_write
from fssplat.search.space import SearchSpec

MISSED_BEATS = 3  # heartbeats that a driver may miss before it counts as dead
POSTGRES = "postgresql"
SCRIPTS = "storages/_rdb/alembic/versions"  # of Optuna's schema, in its package

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used")


@dataclass(frozen=True)
class StudyDatabase:
    """A database of studies, and the lock that its drivers share."""

    url: str
    heartbeat_s: float

    @property
    def shown(self) -> str:
        """The address without its password."""
        return hidden(self.url)

    def connect(self) -> RDBStorage:
        """Open the storage; make it if it is missing. Raises InputError if it cannot be used."""
        sqlite = self.url.startswith("sqlite")
        try:
            with self.lock("storage"):
                storage = RDBStorage(
                    self.url,
                    engine_kwargs=self._engine(),
                    heartbeat_interval=max(1, round(self.heartbeat_s)),
                    grace_period=max(1, round(MISSED_BEATS * self.heartbeat_s)),
                    heartbeat_stale_trial_callback=requeue_point,
                )
                if sqlite:
                    _enable_wal(storage)
                return storage
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise self._unusable(error) from error

    def existing(self) -> RDBStorage | None:
        """Open the storage for reading, or return None if the database has no studies yet.

        Writes nothing. Raises InputError if the database cannot be used, or if its tables are of
        another program or of another version of Optuna.
        """
        path = sqlite_path(self.url)
        if path is not None and _is_new(path):
            return None
        try:
            found = contents_of(self.url, "version_info")
            self._check_schema(found)
            if "studies" not in found.tables:
                return None
            return RDBStorage(self.url, engine_kwargs=self._engine(), skip_table_creation=True)
        except (sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as e:
            raise self._unusable(e) from e

    def _check_schema(self, found: Contents) -> None:
        """Raises InputError for tables that Optuna cannot use."""
        known, newest = revisions("optuna", SCRIPTS)
        if found.revision in known or not found.tables or not newest:
            if found.revision and newest and found.revision != newest:
                upgrade = command_line(["optuna", "storage", "upgrade", "--storage", self.shown])
                raise InputError(
                    f"search.storage {self.shown}: was made by an older Optuna (schema "
                    f"{found.revision}, this one needs {newest}). Make a copy, then run "
                    f"`{upgrade}`."
                )
            return
        if "studies" in found.tables and "experiments" not in found.tables:
            if found.revision:
                raise InputError(
                    f"search.storage {self.shown}: was made by a newer Optuna (schema "
                    f"{found.revision}; this one has {newest}). Install that Optuna, or give "
                    "another database."
                )
            return  # Optuna was interrupted when it made its tables
        owner = "MLflow" if "experiments" in found.tables else "another program"
        if found.revision or self.url.startswith("sqlite") or owner == "MLflow":
            raise InputError(
                f"search.storage {self.shown}: is a database of {owner}, not of Optuna. Give the "
                "studies their own, e.g. --set search.storage=sqlite:///studies.db."
            )

    def _engine(self) -> dict[str, Any]:
        sqlite = self.url.startswith("sqlite")
        arguments = {"timeout": 60} if sqlite else {"connect_timeout": CONNECT_S}
        named = sqlite or self.url.startswith(POSTGRES)  # other drivers name it otherwise
        return {"pool_pre_ping": True, **({"connect_args": arguments} if named else {})}

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Let one driver in at a time. The lock is released when its process dies.

        Raises InputError if the lock cannot be taken.
        """
        path = sqlite_path(self.url)
        if path is not None:
            with _file_lock(path.with_name(f"{path.name}.lock")):
                yield
        elif self.url.startswith(POSTGRES):
            with self._advisory_lock(name):
                yield
        else:
            yield

    @contextlib.contextmanager
    def _advisory_lock(self, name: str) -> Iterator[None]:
        """A numbered lock of Postgres. It ends with the connection that took it."""
        number = int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)
        try:
            connection = _lock_engine(self.url).connect()
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            raise self._unusable(error) from error
        with connection:
            connection.execute(sqlalchemy.text("select pg_advisory_lock(:n)"), {"n": number})
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text("select pg_advisory_unlock(:n)"), {"n": number})

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Raises InputError if the database (its disk, its server) fails while a search runs."""
        try:
            yield
        except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
            raise InputError(
                f"search.storage {self.shown}: failed while the search ran "
                f"({_first_line(error.__cause__ or error)}). Repair it and run the same command: "
                "interrupted points continue."
            ) from error

    def _unusable(self, error: BaseException) -> InputError:
        return InputError(
            f"search.storage {self.shown}: cannot be used ({_first_line(error)}). Give "
            "sqlite:///<file>.db, or postgresql://<user>@<host>/<database> of a running server."
        )


def _first_line(error: BaseException) -> str:
    return hidden(first_line(error))


def _enable_wal(storage: RDBStorage) -> None:
    """Use write-ahead logging with synchronous=NORMAL, so that commits do not wait for the disk.

    A killed process loses nothing; a power failure can lose the last commits.
    """

    def prepare(connection: Any, _record: Any) -> None:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=normal")

    storage.engine.dispose()
    sqlalchemy.event.listen(storage.engine, "connect", prepare)


_LOCK_ENGINES: dict[str, Any] = {}


def _lock_engine(url: str) -> Any:
    """This process's connections for locks; one is open at a time."""
    if url not in _LOCK_ENGINES:
        _LOCK_ENGINES[url] = sqlalchemy.create_engine(
            url, pool_pre_ping=True, isolation_level="AUTOCOMMIT"
        )
    return _LOCK_ENGINES[url]


# ------------------------------------------------------------------ addresses


def database_of(spec: SearchSpec, folder: Path | None) -> StudyDatabase:
    """The database of a search: `search.storage`, or SQLite in the store's folder.

    Raises InputError for an invalid address, and if the store has no folder and no address is set.
    """
    url = spec.storage
    if not url:
        if folder is None:
            raise InputError(
                "search.storage is empty and the store is not a folder. Give an address, e.g. "
                "postgresql://<user>@<host>/<database>."
            )
        url = f"sqlite:///{folder / 'studies.db'}"
    return database_at("search.storage", url, spec.heartbeat_s)


def database_at(setting: str, url: str, heartbeat_s: float) -> StudyDatabase:
    """The database at an address that `setting` gives.

    Raises InputError if it is not an address, or if its driver is not installed.
    """
    require_password(setting, url)
    check_address(setting, with_driver(url))
    return StudyDatabase(sqlalchemy_url(url), heartbeat_s)


def sqlalchemy_url(url: str) -> str:
    """The url as SQLAlchemy needs it: a file by its whole path, Postgres with our driver."""
    path = sqlite_path(url)
    return f"sqlite:///{path}" if path is not None else with_driver(url)


def sqlite_path(url: str) -> Path | None:
    """The file of a sqlite address; returns None for any other address.

    It is resolved to one canonical path, since locking one file under two names would deadlock.
    """
    file = sqlite_file(url)
    if file is None:
        return None
    named = file if file.name else Path("studies.db")
    return Path(os.path.realpath(named))  # `resolve` would raise an error for a loop of links


def _is_new(path: Path) -> bool:
    """Whether the file is missing. Raises InputError if it cannot be made."""
    with _writable(path.parent):
        if path.exists():
            return False
        try_to_write(path.parent)
        return True


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    with _writable(path.parent), lock(path):
        yield


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"search.storage: {folder} cannot be written ({error.strerror or error}). "
            "Give another with --set search.storage=sqlite:///<file>.db."
        ) from error


# ------------------------------------------------------------------ heartbeats


def record_heartbeat(study: Study, trial: FrozenTrial) -> None:
    """Record in the database that an Optuna trial's driver is alive."""
    storage = rdb_storage(study)
    if storage is not None:
        storage.record_heartbeat(trial._trial_id)


def rdb_storage(study: Study) -> RDBStorage | None:
    """The database behind Optuna's cache; returns None for a study in memory."""
    inner = getattr(study._storage, "_backend", study._storage)
    return inner if isinstance(inner, RDBStorage) else None


def requeue_dead_trials(study: Study, database: StudyDatabase) -> None:
    """Fail the Optuna trials whose driver is dead, and queue their points again."""
    optuna.storages.fail_stale_trials(study)
    limit_s = 10 * MISSED_BEATS * database.heartbeat_s
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        began = trial.datetime_start or datetime.now()
        age_s = (datetime.now() - began).total_seconds()
        if not trial.params and age_s > limit_s:  # its driver died before its first heartbeat
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                requeue_point(study, trial)


def requeue_point(study: Study, trial: FrozenTrial) -> None:
    """Queue the point of an interrupted trial; its training continues from its checkpoint."""
    point = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    kept = ("origin", "lost")
    attrs = {name: trial.user_attrs[name] for name in kept if name in trial.user_attrs}
    if point:
        study.enqueue_trial(point, {**attrs, "again": first_number(trial)})


def first_number(trial: optuna.Trial | FrozenTrial) -> int:
    """The number of the first Optuna trial of this point, which later ones repeat or copy."""
    attrs = trial.user_attrs
    return int(attrs.get("same_as", attrs.get("again", trial.number)))
