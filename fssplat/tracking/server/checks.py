"""Checks of MLflow's address before a launch or a search starts; they write into no database."""

import re
import socket
from urllib.parse import urlsplit

from fssplat.common import databases
from fssplat.common.errors import InputError, first_line
from fssplat.common.passwords import hidden
from fssplat.common.printing import command_line
from fssplat.experiment.schema import NO_TRACKING, ExperimentSpec
from fssplat.results.store import Store
from fssplat.tracking.server.connection import (
    MlflowError,
    check_writable,
    is_away,
    mlflow_errors,
    prepare_mlflow,
    sqlite_path,
    tracking_uri,
)

SCRIPTS = "store/db_migrations/versions"  # of MLflow's schema, in its package
OPTUNA_TABLES = {"studies", "study_user_attributes"}
MLFLOW_TABLES = {"experiments", "runs", "metrics", "params", "tags"}


def check_tracking(experiment: ExperimentSpec, store: Store, make: bool = True) -> str:
    """Raises InputError for an address that MLflow cannot use, however long one waits.

    Returns a warning if the server does not answer now, because the rest cannot be checked then;
    otherwise an empty text. Makes the folder and lock of a database file unless `make` is False.
    """
    if experiment.tracking == NO_TRACKING:
        return ""
    return check_uri(tracking_uri(experiment.tracking, store), make)


def check_uri(uri: str, make: bool = False) -> str:
    """`check_tracking` for an address of MLflow."""
    if re.search(r"\s", uri) and "://" in uri and not uri.startswith("sqlite"):
        raise InputError(
            f"tracking {hidden(uri)}: not an address: it has a space or a line break. Remove it; "
            "in a password, write %20 for a space."
        )
    check_writable(uri, make)
    try:
        with mlflow_errors():
            if uri.startswith(("http:", "https:", "databricks:")):
                _check_server(uri)
            else:
                databases.check_address("tracking", uri)
                _check_schema(uri)
    except MlflowError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        if error.away:
            return (
                f"tracking {hidden(uri)}: does not answer ({error}), so it was not checked. "
                "A launch goes on without it, and `fssplat sync` delivers later."
            )
        raise refused(uri, error) from error
    return ""


def refused(uri: str, error: MlflowError) -> InputError:
    """The error for an address where MLflow fails for a reason that lasts."""
    return InputError(
        f"tracking {hidden(uri)}: cannot be used ({error}). Check the address and its credentials "
        "(MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD), or set tracking: none."
    )


def _check_server(uri: str) -> None:
    """Ask the server for its experiments. Raises InputError for an address without a host."""
    if uri.startswith("http"):
        try:
            parts = urlsplit(uri)
            host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:  # a port of letters
            raise InputError(
                f"tracking {hidden(uri)}: not an address ({error}). Give http://<server>:<port>."
            ) from error
        if not host:
            raise InputError(f"tracking {hidden(uri)}: names no host. Give http://<server>:<port>.")
        if not _through_proxy(parts.scheme, host):
            with socket.create_connection((host, port), timeout=databases.CONNECT_S):
                pass  # a dead server ends here, not after MLflow's own attempts
    prepare_mlflow()
    from mlflow.tracking import MlflowClient

    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


def _through_proxy(scheme: str, host: str) -> bool:
    from urllib.request import getproxies, proxy_bypass

    return scheme in getproxies() and not proxy_bypass(host)


def _check_schema(uri: str) -> None:
    """Raises InputError for a database of another program, or of another version of MLflow."""
    try:
        found = databases.contents_of(uri, "experiments")
    except Exception as error:
        if is_away(error):
            raise
        raise InputError(
            f"tracking {hidden(uri)}: cannot be used ({hidden(first_line(error))}). Check the "
            "address and its credentials, or give another with --set tracking=sqlite:///<file>.db."
        ) from error
    known, newest = databases.revisions("mlflow", SCRIPTS)
    other = _other_program(uri, found, known)
    if other:
        raise InputError(
            f"tracking {hidden(uri)}: is a database of {other}, not of MLflow. Give MLflow its "
            "own, e.g. --set tracking=sqlite:///<file>.db."
        )
    if not found.filled or not found.revision or not newest or found.revision == newest:
        return  # new, or MLflow was interrupted when it made its tables, or current
    if found.revision in known:
        upgrade = command_line(["mlflow", "db", "upgrade", hidden(uri)])
        raise InputError(
            f"tracking {hidden(uri)}: was made by an older MLflow (schema {found.revision}, this "
            f"one needs {newest}). Make a copy, then run `{upgrade}`."
        )
    raise InputError(
        f"tracking {hidden(uri)}: was made by a newer MLflow (schema {found.revision}; this one "
        f"has {newest}). Install that MLflow, or give another database."
    )


def _other_program(uri: str, found: databases.Contents, known: frozenset[str]) -> str:
    """Whose tables these are, if MLflow cannot use them; empty if it can."""
    if not found.tables or found.revision in known:
        return ""
    if found.tables >= OPTUNA_TABLES:
        return "Optuna"
    if found.tables >= MLFLOW_TABLES:
        return ""
    return "another program" if found.revision or sqlite_path(uri) is not None else ""
