"""Whole searches: with Ray, MLflow and plots; and how they end."""

import errno
import json
import math
import os
import sqlite3
import subprocess
import sys
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError
from fssplat.engine.settings import Diverged
from fssplat.experiment.expand import expand
from fssplat.experiment.reading import load_experiment
from fssplat.launching import run_record
from fssplat.launching.launch import Request
from fssplat.launching.run_record import watch_stop_file
from fssplat.launching.stop_request import StopRequest
from fssplat.launching.tune_run import background
from fssplat.methods import METHODS
from fssplat.results.launch_records import launches
from fssplat.results.store import Store
from fssplat.search.driver import SearchDriver, search
from fssplat.search.output import ended_points
from fssplat.search.prepare import prepare
from fssplat.search.study import study_progress
from fssplat.search.worker import (
    PointTask,
    Report,
    point_logs,
)
from tests.fakes.searches import score_by_formula, search_file, search_without_ray


def test_a_search_with_ray_ends_in_a_file_that_launch_takes(data: Path, tmp_path: Path) -> None:
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    path = search_file(
        tmp_path, data, trials=8, training={"steps": 4}, experiment={"tracking": tracking}
    )
    console = Console(record=True, width=120, file=(tmp_path / "screen").open("w"))
    assert search(Request(path), console, score_by_formula) == 0
    said = console.export_text()
    assert "8 points" in said
    assert "the default" in said
    (folder,) = (tmp_path / "store" / "searches").iterdir()
    rows = (folder / "trials.csv").read_text().splitlines()
    assert len(rows) == 9
    assert (folder / "plots" / "plots.html").is_file()

    best = load_experiment(folder / "best.yaml")
    (trial,) = expand(best, METHODS)
    top = max(
        (row.split(",") for row in rows[1:] if ",complete," in row), key=lambda row: float(row[3])
    )
    assert str(trial.training.lr) in top
    assert trial.training.steps == 8  # the search's own, shorter schedule stays out
    assert trial.method.label == "panet:tuned"
    assert "base-val" in best.claim
    check_mlflow(tracking, folder)


def check_mlflow(tracking: str, folder: Path) -> None:
    """One parent run with the artefacts, one nested run per point with its curve."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracking)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["fssplat.kind"] == "study"]
    points = [run for run in runs if run.data.tags["fssplat.kind"] == "point"]
    assert sorted(int(run.data.tags["fssplat.point"]) for run in points) == list(range(8))
    assert {run.data.tags["mlflow.parentRunId"] for run in points} == {parent.info.run_id}
    assert {run.data.tags["selection"] for run in runs} == {"base-val"}
    assert all(run.info.status == "FINISHED" for run in runs)
    first = next(run for run in points if run.data.tags["fssplat.point"] == "0")
    curve = client.get_metric_history(first.info.run_id, "miou")
    assert [metric.step for metric in curve] == [25, 50, 75, 100]
    assert first.data.params == {"loss_weights.alignment": "1.0", "training.lr": "0.002"}
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"best.yaml", "trials.csv", "search.json", "plots"} <= names


def test_files_of_a_search_contain_an_address_without_its_password(
    data: Path, tmp_path: Path
) -> None:
    others = {"tracking": "http://me:secret@head:5000"}
    path = search_file(tmp_path, data, trials=1, experiment=others)
    drive = search_without_ray(path)
    folder = drive.write_files(ended_points(drive.search, drive.study))
    assert load_experiment(folder / "best.yaml").tracking == "http://me:***@head:5000"
    kept = json.loads((folder / "search.json").read_text())
    assert kept["experiment"]["tracking"] == "http://me:***@head:5000"


def test_a_bad_space_ends_with_code_2_before_ray_is_loaded(data: Path, tmp_path: Path) -> None:
    space = {"loss_weights": {"dice": {"log": [0, 1]}}, "training": {"lr": {"log": [1, 0.1]}}}
    path = search_file(tmp_path, data, space=space)
    program = (
        "import sys\nfrom fssplat.cli import main\n"
        f"sys.argv = ['fssplat', 'search', {str(path)!r}]\n"
        "try:\n    main()\nfinally:\n    assert 'ray' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 2, done.stderr
    assert "panet has no loss 'dice'" in done.stderr
    assert "low 1 is not below high 0.1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("search.storage=sqlite:////proc/x.db", "/proc cannot be written"),
        ("search.storage=sqlite:////etc/hostname/x.db", "/etc/hostname cannot be written"),
        ("search.storage=sqlite:////etc", "sqlite:////etc: cannot be used"),
        ("search.storage=foo://me@db/x", "foo://me@db/x: its driver is not installed"),
        ("search.storage=mysql://me@db/x", "its driver is not installed"),
        ("search.warm_start={study: nope}", "has no study nope. Known: none"),
        ("search.warm_start={study: old, storage: 'sqlite:////tmp/gone/x.db'}", "has no study old"),
        ("resources.gpu=64", "needs 1 cores and 64 GPUs on one machine"),
        ("resources.cpu=4000", "needs 4000 cores"),
    ],
)
def test_errors_of_a_search_are_reported_before_anything_is_made(
    change: str, says: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError) as caught:
        prepare(Request(search_file(tmp_path, data), (change,)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store" / "studies.db").exists()


def test_checking_a_search_again_makes_no_study(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = search_file(tmp_path, data)
    for _ in range(2):
        prepare(Request(path))
    assert not (tmp_path / "store" / "studies.db").exists()
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # a cluster: its machines are not checked here
    prepare(Request(path, ("resources.gpu=64",)))


def test_a_warm_start_needs_its_study_only_until_its_points_are_queued(
    data: Path, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/other.db"
    search_without_ray(
        search_file(tmp_path / "first", data, trials=1, study="first", storage=storage)
    )
    warm = {"study": "first", "storage": storage}
    path = search_file(tmp_path, data, trials=1, study="second", warm_start=warm)
    search_without_ray(path)
    (tmp_path / "other.db").unlink()
    search_without_ray(path, changes=("search.trials=2",))


def test_a_search_that_fails_leaves_no_running_run_in_mlflow(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    def broken(drive: SearchDriver) -> None:
        raise RuntimeError("Ray did not start")

    monkeypatch.setattr(SearchDriver, "run", broken)
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    path = search_file(tmp_path, data, experiment={"tracking": tracking})
    with pytest.raises(RuntimeError, match="Ray did not start"):
        search(Request(path), Console(quiet=True), score_by_formula)
    client = MlflowClient(tracking_uri=tracking)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"


def test_points_that_all_fail_end_the_search_with_their_reason(data: Path, tmp_path: Path) -> None:
    def broken(task: Any, folder: Path, report: Any, stopping: Any) -> None:
        raise InputError("one episode does not fit the device.")

    drive = search_without_ray(search_file(tmp_path, data, trials=50), broken)
    found = ended_points(drive.search, drive.study)
    assert [one.state for one in found] == ["failed"] * 3
    assert {one.reason for one in found} == {"one episode does not fit the device."}


@pytest.mark.slow
def test_points_that_end_before_their_first_milestone_end_with_a_reason_under_ray(
    data: Path, tmp_path: Path
) -> None:
    def broken(task: Any, folder: Path, report: Any, stopping: Any) -> None:
        if task.number == 0:
            raise Diverged(3, {"segmentation": math.nan})
        raise InputError("one episode does not fit the device.")

    path = search_file(tmp_path, data, trials=3)
    assert search(Request(path), Console(quiet=True), broken) == 1
    (table,) = (tmp_path / "store" / "searches").glob("*/trials.csv")
    text = table.read_text()
    assert text.count("step 3") == 1
    assert text.count("one episode does not fit the device.") == 2


@pytest.mark.slow
def test_a_full_disk_ends_a_search_and_spends_no_point(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full"

    def bounded(task: PointTask, folder: Path, report: Report, stopping: Any) -> None:
        if full.exists():
            (folder / "step-1").touch()  # a checkpoint from before
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        score_by_formula(task, folder, report, stopping)

    path = search_file(tmp_path, data, trials=6, pruning="none")
    assert search(Request(path, ("search.trials=2",)), Console(quiet=True), bounded) == 0
    full.touch()
    console = Console(record=True, width=200, file=(tmp_path / "screen").open("w"))
    assert search(Request(path), console, bounded) == 1
    said = console.export_text()
    assert said.count("No space left on device. Make room; the point goes on then.") == 1
    assert "Stopped. To go on: fssplat search" in said
    drive = search_without_ray(path, bounded, ("search.trials=2",))
    assert study_progress(drive.study).spent == 2
    assert list(drive.folder.glob("points/*/step-1"))  # what a cut point had is kept
    full.unlink()
    assert search(Request(path), Console(quiet=True), bounded) == 0
    assert [one.state for one in ended_points(drive.search, drive.study)] == ["complete"] * 6


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.safetensors"), True),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EIO, os.strerror(errno.EIO)), False),
        (ValueError("no space for a mask"), False),
    ],
)
def test_a_full_disk_is_recognised_by_number_or_text(error: Exception, full: bool) -> None:
    assert is_disk_full(error) == full


@pytest.mark.slow
def test_a_study_that_fails_during_a_search_is_one_line(data: Path, tmp_path: Path) -> None:
    def dropped(task: PointTask, folder: Path, report: Report, stopping: Any) -> None:
        with sqlite3.connect(tmp_path / "study.db", timeout=60) as database:
            database.execute("drop table trial_intermediate_values")
        score_by_formula(task, folder, report, stopping)

    path = search_file(tmp_path, data, storage=f"sqlite:///{tmp_path}/study.db")
    with pytest.raises(InputError) as caught:
        search(Request(path), Console(quiet=True), dropped)
    assert "study.db: failed while the search ran (" in str(caught.value)
    assert "no such table" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_written_are_one_line_and_are_written_the_next_time(
    data: Path, tmp_path: Path
) -> None:
    path = search_file(tmp_path, data, trials=1)
    drive = search_without_ray(path)
    drive.console = Console(record=True, width=200, file=(tmp_path / "screen").open("w"))
    points = ended_points(drive.search, drive.study)
    (drive.folder / "trials.csv").mkdir()
    drive.write_files(points)
    assert drive.finish(points, StopRequest()) == 1
    assert drive.console.export_text().count("some files are missing (IsADirectoryError") == 1
    (drive.folder / "trials.csv").rmdir()
    again = search_without_ray(path)
    again.write_files(points)
    assert again.finish(points, StopRequest()) == 0


def test_points_that_fail_in_a_row_end_a_search_with_complete_points(
    data: Path, tmp_path: Path
) -> None:
    def broken(task: PointTask, folder: Path, report: Report, stopping: Any) -> None:
        raise InputError("one episode does not fit the device.")

    path = search_file(tmp_path, data, trials=50)
    search_without_ray(path, score_by_formula, ("search.trials=2",))
    drive = search_without_ray(path, broken)
    found = ended_points(drive.search, drive.study)
    assert [one.state for one in found].count("failed") == 3
    assert study_progress(drive.study).spent == 5


def test_single_points_that_fail_do_not_end_a_search_and_leave_their_error(
    data: Path, tmp_path: Path
) -> None:
    def broken(task: Any, folder: Path, report: Any, stopping: Any) -> None:
        if task.number % 3 == 2:
            score_by_formula(task, folder, report, stopping)
        else:
            raise KeyError("x")

    drive = search_without_ray(search_file(tmp_path, data, trials=6), broken)
    found = ended_points(drive.search, drive.study)
    assert [one.state for one in found].count("failed") == 4
    store = Store(str(tmp_path / "store"))
    logs = point_logs(store, drive.study.study_name)
    assert sorted(logs) == list(range(6))
    assert [b"KeyError: 'x'\n--- failed: KeyError: 'x'\n" in log for log in logs.values()] == [
        True, True, False, True, True, False,
    ]  # fmt: skip


def test_a_running_search_is_listed_and_can_be_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = search_file(tmp_path, data)
    store = Store(str(tmp_path / "store"))
    asked = StopRequest()

    def stopped(drive: SearchDriver) -> StopRequest:
        (record,) = launches(store)
        assert (record.running, record.experiment) == (True, "small")
        assert record.command == f"fssplat search {path}"
        done = CliRunner().invoke(app, ["stop", str(path)])
        assert f"{record.id}: asked to stop" in done.output
        with background(partial(watch_stop_file, store, drive.launch, asked)):
            assert asked.requested.wait(30)
        return asked

    monkeypatch.setattr(run_record, "STOP_FILE_S", 0.01)
    monkeypatch.setattr(SearchDriver, "run", stopped)
    console = Console(file=StringIO(), width=200)
    assert search(Request(path), console, score_by_formula) == 130
    assert f"Stopped. To go on: fssplat search {path}" in console.file.getvalue()  # type: ignore[attr-defined]
    assert not store.running_launches()


def test_a_choice_by_novel_classes_is_labelled_everywhere(data: Path, tmp_path: Path) -> None:
    drive = search_without_ray(search_file(tmp_path, data, trials=2, selection="novel-best"))
    folder = drive.write_files(ended_points(drive.search, drive.study))
    text = (folder / "best.yaml").read_text()
    assert "the NOVEL classes themselves" in text
    best = load_experiment(folder / "best.yaml")
    (trial,) = expand(best, METHODS)
    assert trial.method.label == "panet:tuned-novel-best"
    assert best.name.endswith("novel-best")
    assert "NOVEL" in drive.introduction()
