"""MLflow's address is checked before a launch: what lasts is an error, what passes is a line."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import optuna
import pytest

from fssplat.common.databases import revisions, same_database, with_driver
from fssplat.common.errors import InputError
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.schema import ExperimentSpec
from fssplat.results.store import Store
from fssplat.tracking.server.checks import SCRIPTS, check_tracking
from fssplat.tracking.server.connection import is_away
from tests.fakes.postgres import free_port, postgres_server


def checked(folder: Path, tracking: str) -> str:
    keys = {"name": "x", "dataset": "synthetic", "grid": {"method": ["prior"]}}
    experiment = validate(ExperimentSpec, {**keys, "tracking": tracking}, "x")
    return check_tracking(experiment, Store(str(folder / "store")), make=False)


def refusal(folder: Path, tracking: str) -> str:
    with pytest.raises(InputError) as caught:
        checked(folder, tracking)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(template: Path, copy: Path, *statements: str) -> str:
    """A copy of MLflow's database after some statements, as an address."""
    shutil.copy(template, copy)
    with closing(sqlite3.connect(copy)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return f"sqlite:///{copy}"


def test_a_database_of_this_mlflow_passes_and_is_not_changed(
    tmp_path: Path, empty_database: Path
) -> None:
    uri = changed(empty_database, tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").read_bytes()
    assert checked(tmp_path, uri) == ""
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db"}
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_the_newest_revision_is_the_one_that_mlflow_writes(empty_database: Path) -> None:
    with closing(sqlite3.connect(empty_database)) as database:
        (written,) = database.execute("select version_num from alembic_version").fetchone()
    known, newest = revisions("mlflow", SCRIPTS)
    assert newest == written
    assert len(known) > 20


def test_a_schema_of_another_version_is_refused(tmp_path: Path, empty_database: Path) -> None:
    older = changed(
        empty_database,
        tmp_path / "old.db",
        "update alembic_version set version_num = '0c779009ac13'",
    )
    assert "made by an older MLflow" in refusal(tmp_path, older)
    assert f"`mlflow db upgrade {older}`" in refusal(tmp_path, older)
    newer = changed(
        empty_database, tmp_path / "new.db", "update alembic_version set version_num = 'ffff0000'"
    )
    assert "made by a newer MLflow (schema ffff0000" in refusal(tmp_path, newer)


def test_a_database_whose_making_was_interrupted_is_left_to_mlflow(
    tmp_path: Path, empty_database: Path
) -> None:
    cut = changed(
        empty_database,
        tmp_path / "cut.db",
        "delete from experiments",
        "update alembic_version set version_num = '0c779009ac13'",
    )
    assert checked(tmp_path, cut) == ""


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/studies.db")
    text = refusal(tmp_path, f"sqlite:///{tmp_path}/studies.db")
    assert "is a database of Optuna, not of MLflow" in text
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("create table songs (name text)")
    text = refusal(tmp_path, f"sqlite:///{tmp_path}/other.db")
    assert "is a database of another program" in text
    (tmp_path / "text.db").write_text("no database at all, but text that is long enough" * 30)
    assert "cannot be used (file is not a database)" in refusal(
        tmp_path, f"sqlite:///{tmp_path}/text.db"
    )


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("mysql://u@127.0.0.1/mlflow", "its driver is not installed (No module named 'MySQLdb')"),
        ("postgresql+nothing://u@127.0.0.1/m", "its driver is not installed"),
        ("postgresql://u@127.0.0.1:port/m", "not an address"),
        ("http://", "names no host"),
        ("http://127.0.0.1:port", "not an address"),
    ],
)
def test_a_driver_or_an_address_that_can_never_work_is_refused(
    tmp_path: Path, uri: str, says: str
) -> None:
    assert says in refusal(tmp_path, uri)


def test_postgres_without_a_driver_gets_the_one_that_is_installed(tmp_path: Path) -> None:
    assert with_driver("postgresql://u@h/d") == "postgresql+psycopg2://u@h/d"
    assert with_driver("postgres://u@h/d") == "postgresql+psycopg2://u@h/d"
    assert with_driver("postgresql+psycopg://u@h/d") == "postgresql+psycopg://u@h/d"
    line = checked(tmp_path, f"postgresql://u@127.0.0.1:{free_port()}/mlflow")
    assert "does not answer" in line
    assert "No module named" not in line


@contextmanager
def server_with(status: int) -> Iterator[str]:
    """The address of a server that answers every request with this status."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_refuses_is_an_error(tmp_path: Path, status: int) -> None:
    with server_with(status) as uri:
        text = refusal(tmp_path, uri)
    assert f"tracking {uri}: cannot be used" in text
    assert "MLFLOW_TRACKING_USERNAME" in text


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_overloaded_is_only_a_line(
    tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with server_with(status) as uri:
        assert "so it was not checked" in checked(tmp_path, uri)


def test_a_dead_server_is_only_a_line(tmp_path: Path) -> None:
    line = checked(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert "does not answer" in line
    assert "`fssplat sync` delivers later" in line


def test_only_faults_of_the_connection_are_away() -> None:
    assert is_away(ConnectionRefusedError())
    assert is_away(TimeoutError())
    assert not is_away(ModuleNotFoundError("No module named 'boto3'"))
    assert not is_away(PermissionError(13, "denied"))
    assert not is_away(ValueError("x"))


def test_two_addresses_of_one_database_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "a.db")
    one = f"sqlite:///{tmp_path}/a.db"
    assert same_database(one, f"sqlite:///{tmp_path}/link.db")
    assert not same_database(one, f"sqlite:///{tmp_path}/b.db")
    assert not same_database(one, "http://h:5000")
    assert same_database("postgresql+psycopg2://u@h/d", "postgresql+psycopg2://v:w@h/d")
    assert not same_database("postgresql+psycopg2://u@h/d", "postgresql+psycopg2://u@h/e")


@pytest.mark.slow
def test_a_postgres_server_is_checked_without_writing(tmp_path: Path) -> None:
    import psycopg2

    with postgres_server() as url:
        assert checked(tmp_path, url) == ""
        assert "does not exist" in refusal(tmp_path, url.replace("/test", "/nowhere"))
        assert "does not exist" in refusal(tmp_path, url.replace("test@", "nobody_here@"))
        with closing(psycopg2.connect(url)) as connection:
            cursor = connection.cursor()
            cursor.execute("select count(*) from pg_tables where schemaname = 'public'")
            assert cursor.fetchone() == (0,)
