"""A whole launch on Ray, SQLite MLflow and a store, with functions that replace the engine."""

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fssplat.common.errors import InputError
from fssplat.launching import checks
from fssplat.launching.cluster import Cluster
from fssplat.launching.launch import (
    Launch,
    Request,
    dry_run,
    launch,
    page,
    plan_from,
    trial_states,
)  # fmt: skip
from fssplat.results import environment
from fssplat.results.maintenance import removable_files, reset_failed
from fssplat.tracking.launch_listener import MlflowListener, deliver
from tests.fakes.claims import job_claimed_by
from tests.fakes.engines import fail_by_seed, fail_if_started, train_and_score
from tests.fakes.experiment_files import experiment_without_images


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data sets of these tests have no images, so there are none to check."""
    monkeypatch.setattr(checks, "check_data", lambda plan: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def launched(path: Path, work: Any, *changes: str) -> tuple[int, str]:
    out = StringIO()
    code = launch(Request(path, changes), Console(file=out, width=200), work, [MlflowListener()])
    return code, out.getvalue()


def test_a_launch_ends_in_the_table_and_a_second_one_starts_nothing(
    tmp_path: Path, machines: Cluster, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "TRAINING_BYTES", 10**18)
    path = experiment_without_images(tmp_path)
    (tmp_path / "store").mkdir()
    shutil.copy(empty_database, tmp_path / "store" / "mlflow.db")
    code, text = launched(path, train_and_score)
    assert code == 0
    assert "4 trials in 2 jobs" in text
    assert "2 trainings may need about 2000000000 GB" in text
    assert "synthetic, 5-shot, mIoU under protocol fssplat" in text
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/store/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    kinds = [(run.data.tags["fssplat.kind"], run.info.status) for run in found]
    assert sorted(kinds) == [
        ("launch", "FINISHED"),
        *[("row", "FINISHED")] * 2,
        *[("trial", "FINISHED")] * 4,
    ]
    assert f"MLflow's pages: fssplat ui {path}" in text
    (one,) = (run for run in found if run.data.tags["fssplat.kind"] == "launch")
    note = one.data.tags["mlflow.note.content"]
    assert f"fssplat launch {path}" in note
    assert "synthetic, 5-shot, mIoU under protocol fssplat" in note
    artefacts = {item.path for item in client.list_artifacts(one.info.run_id)}
    assert artefacts == {
        "command.sh", "environment.json", "experiment.json", "experiment.yaml", "resolved.yaml",
        "table.txt",
    }  # fmt: skip
    (typed,) = (tmp_path / "store" / "launches").glob("*/experiment.yaml")
    assert typed.read_text() == path.read_text()
    (written,) = (tmp_path / "store" / "launches").glob("*/environment.json")
    assert json.loads(written.read_text())["packages"]["torch"]
    code, again = launched(path, fail_if_started)
    assert code == 0
    assert "4 trials done, 0 jobs left" in again


@pytest.mark.slow
def test_a_launch_continues_without_mlflow_and_sync_delivers_later(
    tmp_path: Path, machines: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    path = experiment_without_images(tmp_path)
    code, text = launched(path, train_and_score, "tracking=http://127.0.0.1:9")
    assert code == 0
    assert "MLflow is not available" in text
    plan, store = plan_from(Request(path))
    assert deliver(plan.experiment, store, plan.trials, plan.fingerprints, print) == 4
    assert deliver(plan.experiment, store, plan.trials, plan.fingerprints, print) == 0


def test_failures_are_listed_and_a_retry_runs_only_them(tmp_path: Path, machines: Cluster) -> None:
    path = experiment_without_images(
        tmp_path, grid="{method: [panet], seed: [0, 1, 2, 3]}", tracking="none"
    )
    code, text = launched(path, fail_by_seed)
    assert code == 1
    assert "diverged, diverged at step 17: total nan" in text
    assert "failed, ValueError: shapes do not match" in text
    assert f"fssplat retry {path} --set tracking=none" not in text
    assert f"fssplat retry {path}" in text
    plan, store = plan_from(Request(path))
    assert sorted(state for state, _ in trial_states(plan, store).values()) == [
        "diverged", "failed", "failed", "finished",
    ]  # fmt: skip
    assert reset_failed(plan.jobs, plan.states, store) == 3
    code, text = launched(path, train_and_score)
    assert code == 0
    assert "1 trial done, 3 jobs left" in text


def test_a_cut_trial_is_shown_as_pending(tmp_path: Path) -> None:
    request = Request(experiment_without_images(tmp_path))
    plan, store = plan_from(request)
    store.mark(plan.jobs[0].trial_ids, "running", job=plan.jobs[0].key)
    plan, store = plan_from(request)
    shown = trial_states(plan, store)[plan.jobs[0].trial_ids[0]]
    assert shown == ("pending", "was cut; the next launch goes on")
    with job_claimed_by("l1", store, plan.jobs[0].key):
        assert trial_states(plan, store)[plan.jobs[0].trial_ids[0]][0] == "running"


def test_only_files_that_no_result_needs_are_removable(tmp_path: Path) -> None:
    request = Request(experiment_without_images(tmp_path))
    plan, store = plan_from(request)
    first, second = plan.jobs
    for name in ("weights.safetensors", "checkpoints/step-1.safetensors", "log.txt"):
        store.files.write(f"jobs/{first.key}/{name}", b"12")
        store.files.write(f"jobs/{second.key}/{name}", b"12")
    store.mark(first.trial_ids, "skipped", "nothing to score")
    plan, store = plan_from(request)
    rolling = f"jobs/{first.key}/checkpoints/step-1.safetensors"
    assert removable_files(plan.jobs, plan.states, store) == {rolling: 2}
    assert removable_files(plan.jobs, plan.states, store, weights=True) == {
        rolling: 2, f"jobs/{first.key}/weights.safetensors": 2,
    }  # fmt: skip


def test_an_unwritable_mlflow_stops_the_launch_before_any_job(
    tmp_path: Path, machines: Cluster
) -> None:
    (tmp_path / "file").write_text("")
    path = experiment_without_images(tmp_path, tracking=f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(InputError, match="cannot be written"):
        launched(path, fail_if_started)


def test_an_almost_full_disk_stops_the_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "SPARE_BYTES", 10**18)
    with pytest.raises(InputError, match="MB free, a launch needs"):
        launched(experiment_without_images(tmp_path), fail_if_started)


def test_a_disk_that_may_fill_during_the_launch_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(experiment_without_images(tmp_path, tracking="none"))
    for size, warned in ((10**18, True), (1, False)):
        monkeypatch.setattr(checks, "TRAINING_BYTES", size)
        out = StringIO()
        dry_run(request, Console(file=out, width=200))
        assert ("2 trainings may need about 2000000000 GB" in out.getvalue()) is warned
        assert ("GB free" in out.getvalue()) is warned


def test_a_table_is_wide_in_a_file_and_as_wide_as_the_terminal_on_a_screen() -> None:
    assert page(Console(file=StringIO(), width=80)).width == 200
    screen = Console(file=StringIO(), width=80, force_terminal=True)
    assert page(screen) is screen


def test_the_command_to_resume_repeats_the_typed_settings() -> None:
    request = Request(Path("x.yaml"), ("training.steps=5", "name=my test"))
    assert request.command() == "fssplat launch x.yaml --set training.steps=5 --set 'name=my test'"


def test_a_password_is_neither_stored_nor_in_the_command_to_resume(tmp_path: Path) -> None:
    address = "postgresql://me:secret@db/mlflow"
    request = Request(
        experiment_without_images(tmp_path, tracking=address), (f"tracking={address}",)
    )
    plan, store = plan_from(request)
    with Launch(request, plan, store, Console(file=StringIO()))._recorded():
        pass
    kept = {path.name: path.read_text() for path in (tmp_path / "store").rglob("*.json")}
    assert json.loads(kept["experiment.json"])["tracking"] == "postgresql://me:***@db/mlflow"
    assert "me:***@db" in json.loads(kept["command.json"])["command"]
    assert "secret" not in kept["experiment.json"] + kept["command.json"]


def test_a_password_in_an_uncommitted_file_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = "-tracking: none\n+tracking: http://me:secret@head\n+name: a@b\n"
    monkeypatch.setattr(environment, "_git", lambda *_: changes)
    assert environment.uncommitted() == changes.replace("secret", "***")
