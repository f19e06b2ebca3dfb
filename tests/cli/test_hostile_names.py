"""Names from users, files and servers are text, and every printed command can be pasted."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.common.printing import STEERING
from fssplat.data.build.convert import build
from fssplat.data.index import DatasetInfo
from fssplat.launching import checks, several
from fssplat.launching import launch as launching
from fssplat.launching.cluster import Cluster
from fssplat.launching.launch import Request, plan_from
from fssplat.launching.stop_request import StopRequest
from fssplat.launching.verify import RowRequest
from fssplat.report import published
from tests.fakes.claims import job_claimed_by
from tests.fakes.engines import write_scores
from tests.fakes.experiment_files import FINGERPRINT
from tests.fakes.official_layouts import voc_layout
from tests.fakes.searches import SETTINGS, SPACE

HOSTILE = "a [/b] [red]x[/red] :smile: 'q' \"Q\" `t` $HOME ; é 猫 שלום \x1b]0;owned\x9c \u202eabc"
SHOWN = HOSTILE.replace("\x1b", r"\x1b").replace("\x9c", r"\x9c").replace("\u202e", r"\u202e")
CHANGES = ("grid.seed=[0, 1]", "profile=p [bold] 'p' שלום")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def fail_or_score(one: Any, data: Any, folder: Path, emit: Any, *_: Any) -> None:
    """Seed 0 fails with a hostile reason; seed 1 prints hostile text and gets scores."""
    if one.first.training.seed == 0:
        raise InputError(f"{HOSTILE}\nclass {HOSTILE} has 1 image")
    print(HOSTILE)
    write_scores(one, folder, emit)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file in which every name is hostile."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(checks, "check_data", lambda plan: None)
    launch = partial(launching.launch, work=fail_or_score)
    monkeypatch.setattr(launching, "launch", launch)
    monkeypatch.setattr(
        several,
        "launch",
        lambda request, console, work, listeners: launch(request, console, listeners=listeners),
    )
    folder = tmp_path / HOSTILE.replace("/", "")
    data = folder / "data [/x]"
    data.mkdir(parents=True)
    info = DatasetInfo("synthetic", (HOSTILE,), "test", "", FINGERPRINT, {"train": 100}, ())
    (data / "dataset.json").write_text(json.dumps(asdict(info)))
    values = {
        "name": HOSTILE,
        "dataset": "synthetic",
        "datasets": {"synthetic": {"name": "synthetic", "root": str(data)}},
        "store": str(folder / "store [/x]"),
        "tracking": "none",
        "grid": {"method": [{"name": "panet", "variant": HOSTILE}], "seed": [0]},
        "training": {"steps": 4},
        "profiles": {"p [bold] 'p' שלום": {"training": {"steps": 5}}},
    }
    file = folder / "my [bold] 'x'.yaml"
    file.write_text(json.dumps(values))
    return file


def run(*arguments: str | Path) -> str:
    """The output of a command, which must hold no character that steers the terminal."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert not STEERING.search(done.output)
    return done.output


def commands_in(output: str) -> Iterator[str]:
    """Each text that begins as a command of ours, up to the end of its line."""
    for line in output.splitlines():
        before, found, rest = line.partition("fssplat ")
        if found and rest.split(" ")[0] in COMMANDS:
            quoted = before.endswith("`")  # the command itself may contain more of them
            yield f"fssplat {rest.rpartition('`')[0] if quoted else rest}"


def pasted(command: str) -> list[str]:
    """The words that bash makes of a command."""
    script = f"printf '%s\\0' {command}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=10)
    return done.stdout.decode().split("\0")[:-1]


def check_commands(output: str, path: Path, least: int) -> None:
    """Every printed command gives the file and the settings of this test to the parser again."""
    found = list(commands_in(output))
    assert len(found) >= least, output
    for command in found:
        words = pasted(command)
        if "$'" not in command:
            assert shlex.split(command) == words
        name = words[1]
        context = COMMANDS[name].make_context(name, words[2:])
        target = context.params.get("experiment") or context.params.get("target")
        target = target or context.params["experiments"][0]
        assert Path(target) == path, command
        assert tuple(context.params["changes"]) == CHANGES, command


def typed(path: Path) -> tuple[str | Path, ...]:
    """The file and the settings as words of a command line."""
    return (path, *(word for change in CHANGES for word in ("--set", change)))


def test_every_name_is_printed_as_text_and_every_command_can_be_pasted(path: Path) -> None:
    for output in (run("plan", *typed(path)), run("launch", "--dry-run", *typed(path))):
        assert SHOWN in " ".join(output.split())
        check_commands(output, path, least=0)
    plan, store = plan_from(Request(path, CHANGES))
    for one, state in zip(plan.jobs, ("failed", "finished"), strict=True):
        store.mark(one.trial_ids, state, HOSTILE, one.key)  # type: ignore[arg-type]
        store.files.write(f"jobs/{one.key}/log.txt", HOSTILE.encode())
    check_other_commands(path)


@pytest.mark.slow
def test_a_launch_of_hostile_names_prints_text_and_commands_to_paste(
    path: Path, machines: Cluster
) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "tracking": ""}))  # MLflow in SQLite, in the store
    output = run("launch", *typed(path))
    assert f"{SHOWN} class {SHOWN} has 1 image" in " ".join(output.split())
    assert "MLflow is not available" not in output
    check_commands(output, path, least=4)  # MLflow's pages, the log, all logs, retry
    commands = list(commands_in(output))
    assert {command.split()[1] for command in commands} == {"ui", "logs", "retry"}
    for command in commands:
        if not command.startswith("fssplat ui"):  # it serves without end
            run(*pasted(command)[1:])
    check_other_commands(path)
    assert "Traceback" not in run("sync", *typed(path))


@pytest.mark.slow
def test_a_row_with_a_base_of_a_hostile_name_is_run_and_its_commands_can_be_pasted(
    tmp_path: Path, machines: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / HOSTILE.replace("/", "")
    build("pascal-5i", voc_layout(tmp_path / "official", train=40, val=40), folder / "data")
    base = folder / "base [bold] 'x'.yaml"
    base.write_text(json.dumps(base_values(folder)))
    words = ("HMFS:1:55", "--base", base, "--set", "profile=tiny")
    output = run("verify", *words)
    assert "ours" in output
    store = str(folder / "store [/x]")
    (pages,) = (pasted(one) for one in commands_in(output) if one.startswith("fssplat ui"))
    assert pages == ["fssplat", "ui", "--store", store]
    plan, opened = plan_from(RowRequest(published.find(words[0]), base, words[-1:]))
    trial_id = next(iter(plan.trials))
    assert "finished" in run("logs", trial_id, "--store", store)
    opened.delete_trial(trial_id)
    opened.mark([trial_id], "failed", HOSTILE, plan.jobs[0].key)
    monkeypatch.setattr("fssplat.launching.launch.run", lambda *_: StopRequest())
    output = run("verify", *words)
    commands = [pasted(one) for one in commands_in(output)]
    assert ["fssplat", "logs", "--store", store] in commands
    assert ["fssplat", "verify", *map(str, words)] in commands
    assert SHOWN in " ".join(run("logs", "--store", store).split())


def base_values(folder: Path) -> dict[str, Any]:
    """A base file for a published row, with a profile that runs one step in one fold."""
    protocol = {
        "episodes": 2, "episode_seeds": [0], "size": 65, "score": ["original"],
        "training_list": "all", "training_draw": "image", "min_area": 1, "draw": "even",
        "selection": "last", "short_classes": "drop",
    }  # fmt: skip
    weights = {"name": "efficientnet_lite0", "weights": "random"}
    tiny = {
        "grid": {"fold": [0], "backbone": ["efficientnet_lite0"]},
        "training": {"steps": 1, "batch": 2, "size": 65},
        "protocol": protocol,
        "backbones": {"efficientnet_lite0": weights},
        "evaluation": {"panels": 0},
    }
    return {
        "datasets": {"pascal-5i": {"name": "pascal-5i", "root": str(folder / "data")}},
        "store": str(folder / "store [/x]"),
        "profiles": {"tiny": tiny},
    }


def check_other_commands(path: Path) -> None:
    """Run the commands that print states, logs and settings, and paste what they print."""
    words = typed(path)
    output = run("status", *words, "--all", "--changes", "--check")
    assert SHOWN in " ".join(output.split())
    check_commands(output, path, least=1)
    check_commands(run("logs", *words), path, least=0)
    assert SHOWN in run("logs", *words, "panet")
    check_commands(run("gc", *words, "--dry-run"), path, least=0)
    with pytest.raises(InputError, match="no trial has") as caught:
        run("logs", *words, "hsnet \x1b")
    check_commands(str(caught.value), path, least=1)


def test_the_status_of_a_store_prints_hostile_records_as_text(path: Path) -> None:
    plan, store = plan_from(Request(path, CHANGES))
    store.mark(plan.jobs[0].trial_ids, "running", HOSTILE, plan.jobs[0].key, HOSTILE)
    record = {"name": HOSTILE, "store": store.address}
    store.files.write("launches/a [b] 'c'/experiment.json", json.dumps(record).encode())
    store.files.write("launches/a [b] 'c'/command.json", json.dumps({"command": HOSTILE}).encode())
    beat = {"owner": HOSTILE, "host": HOSTILE, "pid": 1, "token": "t", "beat": 0}
    store.files.write("launches/a [b] 'c'/claim", json.dumps(beat).encode())
    output = run("status", "--store", store.address)
    assert SHOWN in output
    (command,) = (line for line in commands_in(output) if line.startswith("fssplat stop"))
    assert pasted(command) == ["fssplat", "stop", "a [b] 'c'", "--store", store.address]
    with job_claimed_by(HOSTILE, store, plan.jobs[0].key):
        assert SHOWN in " ".join(
            run("status", path, "--set", CHANGES[0], "--set", CHANGES[1]).split()
        )


def test_a_search_of_hostile_names_can_be_checked(path: Path, synthetic: Path) -> None:
    data = path.parent / "images [bold] שלום"
    data.symlink_to(synthetic)
    values = {
        **SETTINGS,
        "name": HOSTILE,
        "datasets": {"synthetic": {"name": "synthetic", "root": str(data)}},
        "store": str(path.parent / "search store [/x]"),
        "search": {"space": SPACE, "trials": 2, "episodes": 4, "startup": 1},
    }
    file = path.parent / "search [bold].yaml"
    file.write_text(json.dumps(values))
    assert "no problem found" in run("search", file, "--dry-run")
    values["search"]["space"] = {"[/red]": {"uniform": [0, 4]}}  # type: ignore[index]
    file.write_text(json.dumps(values))
    with pytest.raises(InputError) as caught:
        run("search", file, "--dry-run")
    assert "[/red]" in str(caught.value)


def test_verify_prints_a_base_file_of_a_hostile_name(path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run("verify", "HMFS:1:55", "--base", path.with_name("missing [bold]"), "--dry-run")
    assert "missing [bold]" in str(caught.value)
