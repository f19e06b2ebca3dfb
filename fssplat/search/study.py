"""The Optuna study behind a search: where it is stored, who draws its points, which are left.

A study may have several drivers, one after the other or at once. Whatever depends on how many
points there are happens under one lock; a point whose driver fell silent is drawn again.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fssplat.common.errors import InputError
from fssplat.common.passwords import hidden, require_password
from fssplat.experiment.schema import digest
from fssplat.results.files import try_to_write
from fssplat.search.space import Parameter, Point, Search, SearchSpec, active, label

BEATS = 3  # missed ones after which a driver is taken for dead
POSTGRES = "postgresql"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used")


# ------------------------------------------------------------------ where it lies


@dataclass(frozen=True)
class Place:
    """A database of studies, and the lock that its drivers share."""

    url: str
    heartbeat_s: float

    @property
    def shown(self) -> str:
        """The address without its password."""
        return hidden(self.url)

    def connect(self) -> RDBStorage:
        """The storage, made where missing. Raises InputError where it cannot be used."""
        sqlite = self.url.startswith("sqlite")
        engine: dict[str, Any] = {"pool_pre_ping": True}
        if sqlite:
            engine["connect_args"] = {"timeout": 60}
        try:
            with self.lock("storage"):
                storage = RDBStorage(
                    self.url,
                    engine_kwargs=engine,
                    heartbeat_interval=max(1, round(self.heartbeat_s)),
                    grace_period=max(1, round(BEATS * self.heartbeat_s)),
                    heartbeat_stale_trial_callback=draw_again,
                )
                if sqlite:
                    _hasten(storage)
                return storage
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            raise self._unusable(error) from error
        except ImportError as error:
            raise InputError(
                f"search.storage {self.shown}: its driver is not installed ({error}). "
                "For Postgres: pip install 'fssplat[postgres]'."
            ) from error

    def existing(self) -> RDBStorage | None:
        """The storage; None where it is a file that is yet to be made, in a folder that takes one.

        Raises InputError where it cannot be used.
        """
        path = sqlite_path(self.url)
        return self.connect() if path is None or not _to_be_made(path) else None

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One driver at a time; free again when its holder dies. Raises InputError."""
        path = sqlite_path(self.url)
        if path is not None:
            with _flock(path.with_name(f"{path.name}.lock")):
                yield
        elif self.url.startswith(POSTGRES):
            with self._advisory(name):
                yield
        else:
            yield

    @contextlib.contextmanager
    def _advisory(self, name: str) -> Iterator[None]:
        """Postgres' own lock by number, which ends with the connection that holds it."""
        number = int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)
        try:
            connection = _engine(self.url).connect()
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
        """Raises InputError where the database fails while a search runs: its disk, its server."""
        try:
            yield
        except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
            raise InputError(
                f"search.storage {self.shown}: failed while the search ran "
                f"({_first_line(error.__cause__ or error)}). Mend it and run the same command: "
                "points that were cut go on."
            ) from error

    def _unusable(self, error: BaseException) -> InputError:
        return InputError(
            f"search.storage {self.shown}: cannot be used ({_first_line(error)}). Give "
            "sqlite:///<file>.db, or postgresql://<user>@<host>/<database> of a running server."
        )


def _first_line(error: BaseException) -> str:
    return hidden((str(error).strip().splitlines() or [type(error).__name__])[0])


def _hasten(storage: RDBStorage) -> None:
    """SQLite with a journal of its own: no wait for the disk at each of a point's many writes.

    What a killed process wrote stays; a power cut may cost the last moments, but no more.
    """

    def prepare(connection: Any, _record: Any) -> None:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=normal")

    storage.engine.dispose()
    sqlalchemy.event.listen(storage.engine, "connect", prepare)


_ENGINES: dict[str, Any] = {}


def _engine(url: str) -> Any:
    """The connections of this process that hold locks; one is open at a time."""
    if url not in _ENGINES:
        _ENGINES[url] = sqlalchemy.create_engine(
            url, pool_pre_ping=True, isolation_level="AUTOCOMMIT"
        )
    return _ENGINES[url]


def place_of(spec: SearchSpec, folder: Path | None) -> Place:
    """Where a search keeps its study: its own address, else SQLite in the store's folder.

    Raises InputError for an address that is none, and for a store without a folder.
    """
    url = spec.storage
    if not url:
        if folder is None:
            raise InputError(
                "search.storage is empty and the store is no folder. Give an address, e.g. "
                "postgresql://<user>@<host>/<database>."
            )
        url = f"sqlite:///{folder / 'studies.db'}"
    return place_at("search.storage", url, spec.heartbeat_s)


def place_at(setting: str, url: str, heartbeat_s: float) -> Place:
    """The place of an address that was set. Raises InputError for one that is none."""
    require_password(setting, url)
    try:
        sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:  # ValueError: a port of letters
        raise InputError(
            f"{setting} {hidden(url)}: not an address. Give sqlite:///<file>.db or postgresql://..."
        ) from error
    return Place(address(url), heartbeat_s)


def address(url: str) -> str:
    """The url as SQLAlchemy wants it: a file by its whole path, Postgres with our driver."""
    path = sqlite_path(url)
    if path is not None:
        return f"sqlite:///{path}"
    scheme, _, rest = url.partition("://")
    return f"{POSTGRES}+psycopg2://{rest}" if scheme in (POSTGRES, "postgres") else url


def sqlite_path(url: str) -> Path | None:
    """The database file of a sqlite address, by its one true path; None for any other address.

    However it is spelled: a driver that locks one file under two names waits for itself.
    """
    if not url.startswith("sqlite"):
        return None
    given = Path(sqlalchemy.make_url(url).database or "studies.db").expanduser()
    return Path(os.path.realpath(given))  # where `resolve` raises, a loop of links is let through


def _to_be_made(path: Path) -> bool:
    """Whether a file is missing. Raises InputError where it cannot be made."""
    with _writable(path.parent):
        if path.exists():
            return False
        try_to_write(path.parent)
        return True


@contextlib.contextmanager
def _flock(path: Path) -> Iterator[None]:
    with _writable(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
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


# ------------------------------------------------------------------ opening it


def objectives(spec: SearchSpec) -> tuple[str, ...]:
    """What is maximised, in Optuna's order."""
    return ("miou", "episodes_per_s") if spec.sampler == "nsga2" else ("miou",)


def comparable(search: Search, keys: Sequence[str]) -> str:
    """Digest of whatever makes two values comparable: data, trainings, space and how it looks.

    `keys` name the trainings of the default point, with how they are scored.
    """
    spec = search.spec
    plain = {name: parameter.model_dump() for name, parameter in search.space.items()}
    return digest(
        list(keys), plain, spec.selection, spec.episodes, spec.rungs, objectives(spec), length=8
    )


def name_of(search: Search, mark: str) -> str:
    """What the study is called."""
    return search.spec.study or f"{search.experiment.name}-{mark}"


def check_study(search: Search, place: Place, mark: str) -> None:
    """Whatever `open_study` refuses, before a study is made. Raises InputError."""
    storage = place.existing()
    study = find_study(name_of(search, mark), storage)
    if study is not None:
        _check_same(study, objectives(search.spec), mark, place)
    if study is None or "mark" not in study.user_attrs:  # else its first points are drawn
        warm_points(search, place, storage)


def find_study(name: str, storage: RDBStorage | None) -> Study | None:
    """A study of this name, None where there is none."""
    if storage is None:
        return None
    with contextlib.suppress(KeyError):
        return optuna.load_study(study_name=name, storage=storage, sampler=RandomSampler())
    return None


def open_study(search: Search, place: Place, mark: str) -> Study:
    """The study, made with its first points where missing, dead drivers' points drawn again.

    Raises InputError where a study of this name searches something else.
    """
    spec, names = search.spec, objectives(search.spec)
    name, storage = name_of(search, mark), place.connect()
    with place.lock(name):
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["maximize"] * len(names),
            sampler=PerTrial(spec),
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        _check_same(study, names, mark, place)
        tend(study, place)
        if "mark" not in study.user_attrs:
            study.set_metric_names(list(names))
            study.set_user_attr("selection", spec.selection)
            study.set_user_attr("defaults", json.dumps(search.defaults))
            study.enqueue_trial(labels(search.defaults), user_attrs={"origin": "defaults"})
            for point in warm_points(search, place, storage):
                study.enqueue_trial(point, {"origin": "warm start"}, skip_if_exists=True)
            study.set_user_attr("mark", mark)  # last: a driver cut before here starts it anew
    return study


def _check_same(study: Study, names: tuple[str, ...], mark: str, place: Place) -> None:
    directions = [direction.name for direction in study.directions]
    if directions != ["MAXIMIZE"] * len(names):
        raise InputError(
            f"study {study.study_name} in {place.shown}: its directions are "
            f"{', '.join(directions).lower()}; this search maximises {' and '.join(names)}. "
            "Give another name with search.study."
        )
    before = study.user_attrs.get("mark", mark)
    if before != mark:
        raise InputError(
            f"study {study.study_name} in {place.shown}: made for another space, data set or "
            f"schedule ({before}, now {mark}), so values do not compare. Give another name with "
            "search.study; search.warm_start takes its best points over."
        )


def labels(point: Point) -> dict[str, Any]:
    """A point as Optuna stores it."""
    return {name: label(value) for name, value in point.items()}


def warm_points(search: Search, place: Place, storage: RDBStorage | None) -> list[dict[str, Any]]:
    """The best points of another study, as far as this space holds them; scored again here.

    Their values are not taken over: other data, folds or schedules made them.
    """
    warm = search.spec.warm_start
    if warm is None:
        return []
    other = place
    if warm.storage:
        other = place_at("search.warm_start.storage", warm.storage, place.heartbeat_s)
    if other.url != place.url:  # the lock of our own place is held
        storage = other.existing()
    study = find_study(warm.study, storage)
    if study is None:
        known = ", ".join(optuna.get_all_study_names(storage) if storage else ()) or "none"
        raise InputError(
            f"search.warm_start.study: {other.shown} has no study {warm.study}. Known: {known}."
        )
    done = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    sign = 1 if study.directions[0].name == "MAXIMIZE" else -1
    best = sorted(done, key=lambda trial: -sign * trial.values[0])[: warm.best]
    points = [within(search, trial.params) for trial in best]
    return [point for point in points if point]


def within(search: Search, params: dict[str, Any]) -> dict[str, Any]:
    """The part of a point that this space holds; the sampler draws the rest."""
    return {
        name: value
        for name, value in params.items()
        if name in search.space and search.space[name].holds(_value(search.space[name], value))
    }


# ------------------------------------------------------------------ drawing points


class PerTrial(BaseSampler):
    """A fresh sampler for every trial, seeded by the search's seed and the trial's number.

    A sampler that lives as long as its driver would repeat its draws in every driver that starts
    with the same seed; this one draws the same point for the same number and the same past,
    however often the search was cut.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self._spec = spec
        self._samplers: dict[int, BaseSampler] = {}

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._samplers:
            self._samplers[trial.number] = sampler_of(self._spec, trial.number)
        return self._samplers[trial.number]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        beat(study, trial)  # at once, so that it is not taken for a dead driver's
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)
        self._samplers.pop(trial.number, None)


def sampler_of(spec: SearchSpec, number: int) -> BaseSampler:
    """The sampler of trial `number`."""
    seed = int(digest(spec.seed, number, length=8), 16)
    if spec.sampler == "random":
        return RandomSampler(seed=seed)
    if spec.sampler == "cmaes":
        return CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)
    if spec.sampler == "nsga2":
        return NSGAIISampler(seed=seed, population_size=spec.population)
    return TPESampler(
        seed=seed,
        n_startup_trials=spec.startup,
        multivariate=True,
        group=True,
        constant_liar=True,
    )


def suggested(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    """A value of one dimension, as Optuna stores it."""
    if parameter.choice is not None:
        return trial.suggest_categorical(name, [label(value) for value in parameter.choice])
    if parameter.integer is not None:
        return trial.suggest_int(name, *parameter.integer)
    low, high = parameter.bounds or (0.0, 0.0)
    return trial.suggest_float(name, low, high, log=parameter.log is not None)


def draw(search: Search, trial: optuna.Trial) -> Point:
    """The point of an asked trial: every dimension that counts, in order."""
    point: Point = {}
    for name, parameter in search.space.items():
        if active(search.space, name, point):
            point[name] = _value(parameter, suggested(trial, name, parameter))
    return point


def point_of(search: Search, params: dict[str, Any]) -> Point:
    """A stored trial's point."""
    return {
        name: _value(search.space[name], value)
        for name, value in params.items()
        if name in search.space
    }


def _value(parameter: Parameter, stored: Any) -> Any:
    for value in parameter.choice or ():
        if label(value) == stored:
            return value
    return stored


# ------------------------------------------------------------------ keeping it in order


def beat(study: Study, trial: FrozenTrial) -> None:
    """Say that a trial's driver is alive."""
    storage = backend(study)
    if storage is not None:
        storage.record_heartbeat(trial._trial_id)


def backend(study: Study) -> RDBStorage | None:
    """The database behind Optuna's cache; None for a study in memory."""
    inner = getattr(study._storage, "_backend", study._storage)
    return inner if isinstance(inner, RDBStorage) else None


def tend(study: Study, place: Place) -> None:
    """Fail the trials whose driver has fallen silent, and put their points back in the queue."""
    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        began = trial.datetime_start or datetime.now()
        age = (datetime.now() - began).total_seconds()
        if not trial.params and age > 10 * BEATS * place.heartbeat_s:  # died before its first beat
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                draw_again(study, trial)


def draw_again(study: Study, trial: FrozenTrial) -> None:
    """Queue the point of a trial that was cut; its training goes on from its checkpoint."""
    point = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    kept = ("origin", "lost")
    attrs = {name: trial.user_attrs[name] for name in kept if name in trial.user_attrs}
    if point:
        study.enqueue_trial(point, {**attrs, "again": first_of(trial)})


def first_of(trial: optuna.Trial | FrozenTrial) -> int:
    """The number under which a point was drawn first, of whatever this one repeats or copies."""
    attrs = trial.user_attrs
    return int(attrs.get("same_as", attrs.get("again", trial.number)))


@dataclass(frozen=True)
class Standing:
    """How far a study is."""

    spent: int  # points with an end of their own: complete, pruned, diverged, or at fault
    running: int  # under any driver
    trials: tuple[FrozenTrial, ...]


def standing(study: Study) -> Standing:
    trials = tuple(study.get_trials(deepcopy=False))
    failed = [t for t in trials if t.state is TrialState.FAIL]  # two objectives: diverged ones too
    own_end = [t for t in failed if {"failed", "diverged"} & t.user_attrs.keys()]
    ended = [t for t in trials if t.state in ENDED]
    running = [t for t in trials if t.state is TrialState.RUNNING]
    return Standing(len(ended) + len(own_end), len(running), trials)


def survives(value: float, others: Sequence[float], reduction: float) -> bool:
    """Whether ASHA goes on: the value is among the best 1 / reduction at its rung so far.

    Li et al., MLSys 2020, in the form that stops at once rather than waits (there is no pause):
    a value below the (1 - 1 / reduction) quantile of those before it ends its trial.
    """
    known = sorted(other for other in others if math.isfinite(other))
    if not known:
        return True
    place = (1 - 1 / reduction) * (len(known) - 1)
    low, share = math.floor(place), place - math.floor(place)
    high = min(low + 1, len(known) - 1)
    return value >= known[low] * (1 - share) + known[high] * share


def best_of(study: Study) -> FrozenTrial | None:
    """The complete trial with the highest mIoU; None where none is complete."""
    done = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    return max(done, key=lambda trial: trial.values[0], default=None)
