"""The command `fssplat launch`, with the real engine on synthetic images."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from fssplat.common.errors import InputError
from fssplat.launching.launch import Request, dry_run, launch
from fssplat.tracking.launch_listener import MlflowListener
from tests.fakes.command_line import output_of, start_command
from tests.fakes.experiment_files import experiment_with_images


@pytest.mark.parametrize("tracking", ["none", pytest.param("", marks=pytest.mark.slow)])
def test_a_grid_runs_to_its_table_and_a_second_launch_starts_nothing(
    tmp_path: Path, synthetic: Path, tracking: str
) -> None:
    path = experiment_with_images(tmp_path, synthetic, tracking=tracking)
    code, out, err = output_of(start_command("launch", path))
    assert code == 0, err
    assert "4 trials in 2 jobs (1 training saved by sharing)" in out
    assert "synthetic, 4-shot, mIoU under protocol fssplat" in out
    assert "vs prior, 95 %" in out
    assert f"Tables, figures and a page of these results: fssplat report {path}" in out
    pages = list((tmp_path / "store").rglob("artifacts/report/index.html"))  # of the run in MLflow
    assert len(pages) == (tracking != "none")
    for page in pages:
        assert "has the best mean" in page.read_text()
        assert (page.parent / "report.md").is_file()
    results = list((tmp_path / "store").glob("*/result.json"))
    assert len(results) == 4
    files = json.loads(results[0].read_text())["files"]
    assert {"episodes.parquet", "metrics.json", "spec.json"} <= set(files)
    assert len([name for name in files if name.startswith("panels/")]) == 3
    before = {item: item.stat().st_mtime_ns for item in results}
    code, out, err = output_of(start_command("launch", path))
    assert code == 0, err
    assert "0 jobs left" in " ".join(out.split())
    assert {item: item.stat().st_mtime_ns for item in results} == before


def test_missing_data_is_reported_in_one_line_with_exit_code_2(tmp_path: Path) -> None:
    path = experiment_with_images(tmp_path, tmp_path / "nowhere")
    code, out, err = output_of(start_command("launch", "--dry-run", path))
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "nowhere" in err
    assert "fssplat data build synthetic" in err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("grid.shot=[30] protocol.short_classes=error", "shot=30 needs 31 images per class"),
        ("grid.shot=[30]", "no trial has an episode"),
        ("grid.method=[panet] grid.way=[40]", "way=40 needs 40 classes"),
        ("training.shot=900", "0 have them. Lower way or shot"),
        ("training.shot=900 protocol.short_classes=error", "shot=900 needs 901 images per class"),
        ("grid.fold=[4]", "folds 0 to 3"),
        ("training.rl=1", "Did you mean training.lr?"),
        ("resources.gpu=1.5", "resources.gpu is 1.5"),
        ("resources.cpu=999", "needs 999 cores"),
        ("resources.gpu=8", "8 GPUs on one machine"),
        ("tracking=./mlruns", "not an address for MLflow"),
        ("tracking=sqlite:////proc/none/mlflow.db", "cannot be written"),
        ("tracking=sqlite:////proc", "cannot be written"),
        ("grid.backbone=[resnet50_v2]", "resnet50_v2: its public weights have no stable address"),
        (
            "backbones.resnet50.name=resnet50 backbones.resnet50.weights=/proc"
            " grid.backbone=[resnet50]",
            "is a folder",
        ),
        ("training.checkpoint=/proc/none grid.method=[panet]", "no such checkpoint"),
        ("training.checkpoint=/proc grid.method=[panet]", "is a folder"),
        ("store=/proc/none", "cannot be written"),
        ("store=/dev/null", "cannot be written"),
    ],
)
def test_bad_settings_stop_a_launch_before_it_starts(
    tmp_path: Path, synthetic: Path, change: str, says: str
) -> None:
    request = Request(experiment_with_images(tmp_path, synthetic), tuple(change.split()))
    for command in (dry_run, launch):
        with pytest.raises(InputError) as error:
            command(request, Console(file=StringIO()), listeners=[MlflowListener()])
        assert says in str(error.value)
        assert "\n" not in str(error.value)


def test_a_dry_run_leaves_nothing_behind(tmp_path: Path, synthetic: Path) -> None:
    request = Request(experiment_with_images(tmp_path, synthetic))
    before = set(tmp_path.rglob("*"))
    out = StringIO()
    dry_run(request, Console(file=out, width=200))
    assert "4 trials in 2 jobs" in out.getvalue()
    assert set(tmp_path.rglob("*")) == before


def test_a_dry_run_on_a_cluster_does_not_check_this_machine(
    tmp_path: Path, synthetic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    dry_run(Request(experiment_with_images(tmp_path, synthetic), ("resources.cpu=999",)), Console())


def test_a_truncated_shard_stops_a_launch_before_it_starts(tmp_path: Path, synthetic: Path) -> None:
    data = tmp_path / "synthetic"
    shutil.copytree(synthetic, data)
    shard = next(data.glob("val-*.tar"))
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(InputError, match=re.escape(shard.name)):
        launch(Request(experiment_with_images(tmp_path, data)), Console(file=StringIO()))


def waiting_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> Path:
    """The first file that matches, once there is one."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        found = next(path.glob(pattern), None)
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"no {pattern} in {path}: {output_of(process)}")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_launch_resumes_and_gives_the_same_bits(
    tmp_path: Path, synthetic: Path, number: signal.Signals, expected: int
) -> None:
    only = ("--set", "grid.method=[panet]", "--set", "grid.shot=[1]")
    path = experiment_with_images(tmp_path / "cut", synthetic, steps=150)
    process = start_command("launch", path, *only)
    waiting_for(tmp_path / "cut" / "store" / "jobs", "*/claim", process)
    time.sleep(15)
    process.send_signal(number)
    code, out, err = output_of(process)
    assert code == expected, err
    assert f"Stopped. To go on: fssplat launch {path}" in out
    assert "No result yet: 1 of 1 trial" in out
    code, out, _ = output_of(start_command("status", path, *only))
    assert code == 0
    assert "stopped at step" in out
    code, _, err = output_of(start_command("launch", path, *only))
    assert code == 0, err
    whole = experiment_with_images(tmp_path / "whole", synthetic, steps=150)
    assert output_of(start_command("launch", whole, *only))[0] == 0
    compare(tmp_path / "cut" / "store", tmp_path / "whole" / "store")


@pytest.mark.slow
def test_a_killed_worker_does_not_change_the_result(tmp_path: Path, synthetic: Path) -> None:
    only = ("--set", "grid.method=[panet]", "--set", "grid.shot=[1]")
    path = experiment_with_images(tmp_path / "cut", synthetic, steps=60)
    process = start_command("launch", path, *only)
    claim = waiting_for(tmp_path / "cut" / "store" / "jobs", "*/claim", process)
    time.sleep(8)
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    code, _, err = output_of(process)
    assert code == 0, err
    whole = experiment_with_images(tmp_path / "whole", synthetic, steps=60)
    assert output_of(start_command("launch", whole, *only))[0] == 0
    compare(tmp_path / "cut" / "store", tmp_path / "whole" / "store")


@pytest.mark.slow
def test_a_launch_finishes_after_the_last_one_was_killed(tmp_path: Path, synthetic: Path) -> None:
    path = experiment_with_images(tmp_path, synthetic, steps=100)
    process = start_command("launch", path)
    waiting_for(tmp_path / "store", "*/result.json", process)
    process.kill()
    process.wait()
    time.sleep(3)  # Ray's workers notice
    code, out, err = output_of(start_command("launch", path))
    assert code == 0, err
    assert "No result yet" not in out
    assert len(list((tmp_path / "store").glob("*/result.json"))) == 4


def compare(one: Path, other: Path) -> None:
    """Weights and scores of two stores, bit by bit."""
    (first,), (second,) = (list(store.glob("jobs/*/weights.safetensors")) for store in (one, other))
    ours, theirs = load_file(first), load_file(second)
    assert set(ours) == set(theirs)
    assert all((ours[name] == theirs[name]).all() for name in ours)
    for file in one.glob("*/metrics.json"):
        left = json.loads(file.read_text())
        right = json.loads((other / file.parent.name / "metrics.json").read_text())
        scores = [name for name in left if "iou" in name]
        assert {name: left[name] for name in scores} == {name: right[name] for name in scores}
