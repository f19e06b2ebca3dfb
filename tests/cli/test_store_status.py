"""`fssplat status`, `stop` and `ui` without an experiment file: what a store has, what runs."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.results.claims import claim
from fssplat.results.launch_records import experiments, launches
from fssplat.results.store import Store

RUN = CliRunner()
FIRST, SECOND = "20260131-120000-aaaa", "20260131-130000-bbbb"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store in ./results that has seen one launch of `one` and one of `two`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = Store.open("results")
    for launch, name in ((FIRST, "one"), (SECOND, "two")):
        write(store, launch, "experiment", {"name": name, "tracking": ""})
        write(store, launch, "command", {"command": f"fssplat launch {name}.yaml"})
    (tmp_path / "one.yaml").write_text("dataset: synthetic\ngrid: {method: [prior]}\n")
    return store


@pytest.fixture
def both_run(store: Store) -> Iterator[Store]:
    first = claim(store.files, f"launches/{FIRST}/claim", FIRST)
    second = claim(store.files, f"launches/{SECOND}/claim", SECOND)
    assert first is not None
    assert second is not None
    with first, second:
        yield store


def write(store: Store, launch: str, name: str, content: object) -> None:
    store.files.write(f"launches/{launch}/{name}.json", json.dumps(content).encode())


def printed(*words: str, code: int = 0) -> str:
    result = RUN.invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


def refused(*words: str) -> str:
    result = RUN.invoke(app, list(words))
    assert isinstance(result.exception, InputError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_status_lists_running_launches_and_the_command_that_stops_each(both_run: Store) -> None:
    text = printed("status")
    assert "Launches that run: 2" in text
    assert f"{FIRST}  one, since 2026-01-31 12:00, process " in text
    commands = [
        line.partition("to stop it: ")[2] for line in text.splitlines() if "stop it" in line
    ]
    assert commands == [f"fssplat stop {FIRST}", f"fssplat stop {SECOND}"]
    printed(*shlex.split(commands[0])[1:])
    assert both_run.stop_requested(FIRST)
    assert not both_run.stop_requested(SECOND)


def test_status_counts_the_trials_of_each_experiment(store: Store, tmp_path: Path) -> None:
    ids = [f"{number:016x}" for number in range(4)]
    store.mark(ids[:1], "failed", "why", launch=FIRST)
    store.mark(ids[1:2], "running", launch=FIRST)
    store.mark(ids[2:], "diverged", launch=SECOND)
    one, two = experiments(store)
    assert (one.name, dict(one.trials)) == ("one", {"failed": 1, "cut short": 1})
    assert (two.name, dict(two.trials)) == ("two", {"diverged": 2})
    text = printed("status")
    assert "Launches that run: none" in text
    assert "two: 2 diverged\n    1 launch, the last one 2026-01-31 13:00" in text
    assert "    fssplat launch one.yaml\n" in text


def test_a_store_elsewhere_is_given_with_store(
    both_run: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert "nothing is there" in refused("status")
    text = printed("status", "--store", "../results")
    assert f"fssplat stop {FIRST} --store ../results" in text
    assert not list(elsewhere.iterdir())


def test_the_command_of_the_last_launch_goes_to_its_folder_first(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"command": "fssplat launch two.yaml", "folder": str(tmp_path)}
    write(store, SECOND, "command", record)
    assert "    fssplat launch two.yaml\n" in printed("status")
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    text = printed("status", "--store", "../results")
    assert f"    cd {tmp_path} && fssplat launch two.yaml\n" in text
    write(store, SECOND, "command", {**record, "folder": "/gone"})
    text = printed("status", "--store", "../results")
    assert "    fssplat launch two.yaml  (typed in /gone, which is not here)\n" in text


@pytest.mark.parametrize("command", ["status", "stop", "ui"])
def test_without_a_store_one_line_says_what_to_type(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"`fssplat {command} X.yaml`" in refused(command)
    assert not list(tmp_path.iterdir())


def test_stop_without_a_name_stops_the_only_launch_and_no_other(store: Store) -> None:
    assert "No launch is running" in printed("stop")
    held = claim(store.files, f"launches/{SECOND}/claim", SECOND)
    assert held is not None
    with held:
        assert f"{SECOND}: asked to stop" in printed("stop")
    assert not store.stop_requested(FIRST)


def test_stop_without_a_name_refuses_to_choose_between_two(both_run: Store) -> None:
    line = refused("stop")
    assert f"`fssplat stop {FIRST}`" in line
    assert SECOND in line
    assert not both_run.stop_requested(FIRST)
    printed("stop", "--all")
    assert both_run.stop_requested(FIRST)
    assert both_run.stop_requested(SECOND)


def test_stop_with_a_file_stops_the_launches_of_that_experiment(both_run: Store) -> None:
    assert printed("stop", "one.yaml").startswith(f"{FIRST}: asked to stop")
    assert not both_run.stop_requested(SECOND)
    printed("stop", "one.yaml", "--all")
    assert both_run.stop_requested(SECOND)


def test_stop_names_what_runs_if_the_id_does_not(both_run: Store) -> None:
    assert FIRST in refused("stop", "20260131-120000-zzzz")
    assert FIRST in refused("stop", "../../etc")
    assert "no such experiment file" in refused("stop", "absent.yaml")


def test_damaged_launch_files_are_left_out(store: Store) -> None:
    for launch, text in (("a", "["), ("b", "[" * 100_000), ("c", "5"), ("d", '{"name": 5}')):
        store.files.write(f"launches/{launch}/experiment.json", text.encode())
        store.files.write(f"launches/{launch}/command.json", b"\xff\xfe")
    write(store, "e", "experiment", {"name": "\x1b[2Jevil"})
    assert {one.experiment for one in launches(store)} == {"", "one", "two", "\x1b[2Jevil"}
    text = printed("status")
    assert "\x1b" not in text
    assert "(launches that are not recorded)" in text


def test_ui_opens_the_mlflow_of_the_latest_launch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, SECOND, "experiment", {"name": "two", "tracking": "http://head:5000"})
    assert printed("ui") == "The MLflow server of this store is http://head:5000\n"
    write(store, SECOND, "experiment", {"name": "two", "tracking": "http://u:***@head:5000"})
    assert "`fssplat ui X.yaml`" in refused("ui")
    write(store, SECOND, "experiment", {"name": "two", "tracking": "none"})
    write(store, FIRST, "experiment", {"name": "one", "tracking": "none"})
    assert "no launch used MLflow" in refused("ui")


def test_ui_names_the_pages_of_every_experiment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fssplat.cli import ui
    from fssplat.tracking import runs
    from fssplat.tracking.server import connection

    served, opened = [], []

    class Opened:
        experiment_id = "1"

        def shared_views(self) -> list[str]:
            return ["table"]

    def open_tracking(uri: str, name: str) -> Opened:
        opened.append(name)
        return Opened()

    monkeypatch.setattr(ui, "require_free", lambda port: None)
    monkeypatch.setattr(runs, "open_tracking", open_tracking)
    monkeypatch.setattr(connection, "serve", lambda uri, port: served.append(uri) or 0)
    text = printed("ui", "--port", "5001")
    assert opened == ["two", "one"]
    assert served == [f"sqlite:///{store.folder}/mlflow.db"]
    assert "two's table: http://127.0.0.1:5001" in text
