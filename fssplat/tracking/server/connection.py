"""MLflow's address and database: how they are checked and opened, and how the pages are served."""

import contextlib
import errno
import logging
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fssplat.common.databases import is_connection_fault, sqlite_file, with_driver
from fssplat.common.errors import InputError
from fssplat.common.locks import lock
from fssplat.common.passwords import hidden, require_password
from fssplat.experiment.schema import NO_TRACKING
from fssplat.results.files import try_to_write
from fssplat.results.store import Store

SCHEMES = ("sqlite", "postgresql", "mysql", "http", "https", "databricks")
CONNECTION_FAULTS = (  # of requests and urllib3
    "ChunkedEncodingError", "ConnectTimeout", "ConnectionError", "MaxRetryError",
    "NewConnectionError", "ProtocolError", "ProxyError", "ReadTimeout", "ReadTimeoutError",
    "RetryError", "Timeout",
)  # fmt: skip
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # `sync` delivers later what a silent server missed
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines for each run that ends
}


class MlflowError(Exception):
    """MLflow does not answer or refuses; results stay in the store until it accepts them."""

    def __init__(self, text: str, away: bool = True) -> None:
        super().__init__(text)
        self.away = away  # does not answer, so that the same call may succeed later

    @property
    def shown(self) -> str:
        """What is wrong, as the start of a line."""
        state = "is not available" if self.away else "refuses"
        return f"MLflow {state} ({self})"


@contextlib.contextmanager
def mlflow_errors() -> Iterator[None]:
    """Raises MlflowError for every error inside, so that MLflow never costs a result."""
    try:
        yield
    except MlflowError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        text = f"{type(error).__name__}: {hidden(lines[0]) if lines else ''}"
        raise MlflowError(text[:300], is_away(error)) from error


def is_away(error: BaseException) -> bool:
    """Whether this is a fault of the connection, or the server's 429 or 5xx.

    Everything else lasts: a missing module, credentials that are refused, another schema.
    """
    one: BaseException | None = error
    while one is not None:
        status = _http_status(one)
        if status:
            return status == 429 or status >= 500
        if "SSLError" in type(one).__name__:
            return False
        if isinstance(one, ConnectionError | TimeoutError | socket.gaierror):
            return True
        if isinstance(one, OSError) and one.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return True
        if type(one).__module__.startswith(("requests", "urllib3")):
            if type(one).__name__ in CONNECTION_FAULTS:
                return True
        elif type(one).__module__.startswith("sqlalchemy"):
            return is_connection_fault(one)
        one = one.__cause__ or one.__context__
    return False


def _http_status(error: BaseException) -> int:
    """The status with which an MLflow server answered; 0 if no server did."""
    found = re.search(r"failed with error code (\d{3})", str(error))
    if found:
        return int(found[1])
    answer = getattr(error, "json", None)  # of MLflow's RestException
    if isinstance(answer, Mapping) and hasattr(error, "get_http_status_code"):
        return int(error.get_http_status_code())
    return 0


# ------------------------------------------------------------------ the address


def tracking_uri(setting: str, store: Store) -> str:
    """The MLflow address: the experiment's, MLFLOW_TRACKING_URI, or SQLite in the store.

    It is always absolute, since a relative one would mean another database in another folder.
    Raises InputError for an address that MLflow cannot use here, and if tracking is off.
    """
    if setting == NO_TRACKING:
        raise InputError(
            "tracking none: MLflow is off for this experiment. Leave `tracking` out for SQLite in "
            "the store, or give an address, e.g. --set tracking=sqlite:///<file>.db."
        )
    uri = setting or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        folder = store.folder or Path("results").absolute()
        return f"sqlite:///{folder / 'mlflow.db'}"
    if uri.split(":", 1)[0].split("+", 1)[0] not in SCHEMES or ":" not in uri:
        raise InputError(
            f"tracking {hidden(uri)}: not an address for MLflow. Give sqlite:///<file>.db, "
            "postgresql://..., or http://<server>; MLflow no longer supports plain folders."
        )
    require_password("tracking", uri)
    path = sqlite_path(uri)
    return f"sqlite:///{path}" if path is not None else with_driver(uri)


def sqlite_path(uri: str) -> Path | None:
    """The database file of a sqlite address, absolute; returns None for any other address."""
    file = sqlite_file(uri)
    return None if file is None else file.absolute()


def check_writable(uri: str, make: bool = True) -> None:
    """Raises InputError for a database file that cannot be written; servers are not checked.

    Makes the file's folder and lock file unless `make` is False.
    """
    path = sqlite_path(uri)
    if path is None:
        return
    with _locked(path) if make else _writable(path):
        if not make:
            try_to_write(path.parent)


# ------------------------------------------------------------------ opening


def prepare_mlflow() -> None:
    """Set MLflow's time-outs and silence its log. Call it before MLflow is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for noisy in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


@dataclass(frozen=True)
class Connection:
    """One MLflow experiment at an address."""

    uri: str
    experiment_id: str
    client: Any  # mlflow.tracking.MlflowClient


def connect(uri: str, experiment: str) -> Connection:
    """Open an MLflow experiment; make its database and itself if they are missing.

    Raises InputError for a database file that cannot be used, MlflowError for a server
    that does not answer.
    """
    prepare_mlflow()
    path = sqlite_path(uri)
    if path is None:
        return _connect(uri, experiment, artifacts=None)
    with _locked(path):  # two processes cannot make MLflow's schema at the same time
        try:
            connection = _connect(uri, experiment, artifacts=path.parent / "mlartifacts")
            _use_wal(path)
        except MlflowError as error:
            raise InputError(
                f"tracking {uri}: cannot be used ({error}). Check the file and its folder, or "
                "give another with --set tracking=sqlite:///<file>.db."
            ) from error
    return connection


def _connect(uri: str, experiment: str, artifacts: Path | None) -> Connection:
    with mlflow_errors():
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            location = artifacts.as_uri() if artifacts is not None else None
            with contextlib.suppress(MlflowException):  # another process made it meanwhile
                client.create_experiment(experiment, artifact_location=location)
            found = client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
    if found is None:
        raise MlflowError(f"experiment {experiment} could not be made")
    return Connection(uri, found.experiment_id, client)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process in at a time. Raises InputError if the database cannot be written."""
    with _writable(path), lock(path.with_name(f"{path.name}.lock")):
        yield


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Raises InputError if the database cannot be written, and for any OSError inside.

    The database file itself is never opened here: closing it would release SQLite's locks on it,
    which belong to the process, and another process could then remove our write-ahead log.
    """
    try:
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        yield
    except OSError as error:
        raise InputError(
            f"tracking sqlite:///{path}: cannot be written ({error.strerror or error}). "
            "Give another with --set tracking=sqlite:///<file>.db."
        ) from error


def _use_wal(path: Path) -> None:
    """Use write-ahead logging, a setting of the file: readers and the writer do not wait."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")


# ------------------------------------------------------------------ MLflow's pages


def serve(uri: str, port: int) -> int:
    """Serve MLflow's own pages on loopback until Ctrl-C. Returns the server's exit code."""
    path = sqlite_path(uri)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    if path is not None:
        command += ["--default-artifact-root", (path.parent / "mlartifacts").as_uri()]
    environment = {**os.environ, **ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment["MLFLOW_BACKEND_STORE_URI"] = uri  # not in the command line, which all users see
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first
        signal.signal(number, signal.default_int_handler)
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)  # and the server's own workers
        process.wait()
        return 0
