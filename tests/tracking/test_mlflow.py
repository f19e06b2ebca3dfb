"""MLflow on real SQLite files: everything arrives, and arrives once."""

import math
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fssplat.common.errors import InputError
from fssplat.experiment.schema import MlflowSpec
from fssplat.results.notes import JobEnded, JobProgress, JobStarted, JobUsage, LossAtStep, TrialDone
from fssplat.results.store import Store
from fssplat.tracking.delivery import Delivery, sync
from fssplat.tracking.names import flattened
from fssplat.tracking.runs import Tracking, open_tracking
from fssplat.tracking.server.connection import (
    MlflowError,
    sqlite_path,
    tracking_uri,
)
from fssplat.tracking.studies import KIND_POINT, KIND_STUDY, PointRun, StudyRun
from tests.fakes.tracked_jobs import history, reopened, runs, scored, tags, trials_of
from tests.fakes.trials import trial


def test_everything_of_a_finished_trial_arrives(tracking: Tracking, store: Store) -> None:
    task = scored(store)
    assert sync(tracking, store, trials_of(task), tags) == 2
    run = next(run for run in runs(tracking) if run.data.tags["shot"] == "5")
    assert run.info.status == "FINISHED"
    assert run.data.tags["fssplat.trial_id"] == task.job.trial_ids[1]
    assert run.data.tags["mlflow.parentRunId"] == tracking.parent
    assert run.data.tags["fssplat.git_commit"] == "abc"
    assert run.data.params["training.steps"] == "4"
    assert run.data.params["method.name"] == "panet"
    assert run.data.metrics["miou"] == 0.5
    assert run.data.metrics["iou/a"] == 0.5
    assert run.data.metrics["miou/fold-0"] == 0.5  # its column in MLflow's table
    pages = tracking.client.get_experiment(tracking.experiment_id).tags
    assert run.data.tags["row"] in pages["mlflow.sharedViewState.trials"]
    assert history(tracking, run.info.run_id, "loss/total") == [
        (1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3)), (4, 0.25),
    ]  # fmt: skip
    files = {item.path for item in tracking.client.list_artifacts(run.info.run_id)}
    assert {"spec.json", "episodes.parquet", "panels", "training"} <= files


def test_an_interrupted_delivery_that_is_repeated_writes_nothing_twice(
    tracking: Tracking, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trials_of(scored(store))

    def dies(*_: Any) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(tracking.client, "set_terminated", dies)
        with pytest.raises(MlflowError):
            sync(tracking, store, trials, tags)
    again = reopened(tracking)
    assert sync(again, store, trials, tags) == 2
    assert sync(again, store, trials, tags) == 0
    found = runs(again)
    assert len(found) == 2
    for run in found:
        assert len(history(again, run.info.run_id, "miou")) == 1
        assert len(history(again, run.info.run_id, "loss/total")) == 4


def test_a_curve_continues_after_the_last_step_of_an_interrupted_run(tracking: Tracking) -> None:
    run_id = tracking.start_run(trial(), "t1", {})
    tracking.log_curve(run_id, [LossAtStep(step, {"total": 1.0}, 0.1) for step in (1, 2, 3)])
    again = reopened(tracking)
    again.find_runs()
    assert again.start_run(trial(), "t1", {}) == run_id
    again.log_curve(run_id, [LossAtStep(step, {"total": 2.0}, 0.1) for step in (2, 3, 4)])
    assert history(again, run_id, "loss/total") == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


def test_a_long_curve_arrives_in_full(tracking: Tracking) -> None:
    run_id = tracking.start_run(trial(), "t1", {})
    tracking.log_curve(run_id, [LossAtStep(step, {"total": 0.0}, 0.1) for step in range(1, 701)])
    assert len(history(tracking, run_id, "loss/total")) == 700  # 1,400 values: two batches
    assert len(history(tracking, run_id, "lr")) == 700


def test_infinite_values_become_not_a_number(tracking: Tracking) -> None:
    run_id = tracking.start_run(trial(), "t1", {})
    tracking.log_curve(run_id, [LossAtStep(1, {"total": math.inf}, 0.1)])
    ((_, value),) = history(tracking, run_id, "loss/total")
    assert math.isnan(value)


def test_the_run_of_a_trial_without_result_has_the_reason(tracking: Tracking) -> None:
    tracking.start_run(trial(), "t1", {})
    tracking.end_without_result("t1", "diverged", "at step 3")
    (run,) = runs(tracking)
    assert run.info.status == "FAILED"
    assert run.data.tags["fssplat.reason"] == "at step 3"


def test_notes_of_a_launch_become_runs_while_it_runs(tracking: Tracking, store: Store) -> None:
    task, warned = scored(store), []
    delivery = Delivery(tracking, store, trials_of(task), tags, warned.append)
    first, _ = task.job.trial_ids
    delivery.on_note(JobStarted(task.job.key, task.job.trial_ids))
    delivery.on_note(
        JobProgress(task.job.key, "training", 0.5, (LossAtStep(1, {"total": 1.0}, 0.1),))
    )
    delivery.on_note(TrialDone(task.job.key, first, {"miou": 0.5}))
    delivery.on_note(JobEnded(task.job.key, "finished"))
    delivery.close()
    status = {run.data.tags["fssplat.trial_id"]: run.info.status for run in runs(tracking)}
    assert status == {first: "FINISHED", task.job.trial_ids[1]: "RUNNING"}
    assert warned == []


def test_what_a_job_uses_becomes_system_metrics(tracking: Tracking, store: Store) -> None:
    task = scored(store)
    delivery = Delivery(tracking, store, trials_of(task), tags, print)
    delivery.on_note(JobStarted(task.job.key, task.job.trial_ids))
    delivery.on_note(JobUsage(task.job.key, 10, {"process_memory_megabytes": 512.0}))
    delivery.close()
    for run in runs(tracking):
        name = "system/process_memory_megabytes"
        assert history(tracking, run.info.run_id, name) == [(10, 512.0)]
    tracking.spec = MlflowSpec(system_metrics=False)
    tracking.log_usage(runs(tracking)[0].info.run_id, 20, {"process_memory_megabytes": 1.0})
    assert len(history(tracking, runs(tracking)[0].info.run_id, name)) == 1


def test_a_missing_server_raises_mlflow_error() -> None:
    with pytest.raises(MlflowError):
        open_tracking("http://127.0.0.1:9", "small")


def test_a_database_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        open_tracking(f"sqlite:///{tmp_path}/file/mlflow.db", "small")
    (tmp_path / "broken.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match="cannot be used"):
        open_tracking(f"sqlite:///{tmp_path}/broken.db", "small")


def test_the_address_is_always_absolute(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri("", store) == f"sqlite:///{store.folder}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    assert tracking_uri("sqlite:///mine.db", store) == f"sqlite:///{tmp_path}/mine.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://head:5000")
    assert tracking_uri("", store) == "http://head:5000"
    assert sqlite_path("http://head:5000") is None
    with pytest.raises(InputError, match="not an address for MLflow"):
        tracking_uri("./mlruns", store)
    with pytest.raises(InputError, match=r"postgres://me:\*\*\*@db/x: not an address"):
        tracking_uri("postgres://me:secret@db/x", store)
    with pytest.raises(InputError, match="write the password"):
        tracking_uri("postgresql://me:***@db/x", store)


def test_a_missing_server_is_named_without_its_password() -> None:
    with pytest.raises(MlflowError) as caught:
        open_tracking("http://me:secret@127.0.0.1:9", "small")
    assert "me:***@127.0.0.1:9" in str(caught.value)


def test_a_spec_is_flattened_to_canonical_strings() -> None:
    value = {"a": {"b": 0.0025, "c": [1, 2]}, "d": True, "e": None, "f": {}}
    assert dict(flattened(value)) == {
        "a.b": "0.0025", "a.c": "[1, 2]", "d": "true", "e": "null", "f": "{}",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)  # sixteen processes that import MLflow share the machine's cores
def test_sixteen_writers_lose_nothing_on_one_sqlite_file(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracking = open_tracking(uri, "many")
    runs = [tracking.start_run(trial(seed), f"t{seed}", {}) for seed in range(16)]
    command = [sys.executable, "-m", "tests.fakes.processes.write_curves", uri]
    writers = [
        subprocess.Popen([*command, run_id], stderr=subprocess.PIPE, text=True) for run_id in runs
    ]
    for writer in writers:
        _, said = writer.communicate(timeout=800)
        assert writer.returncode == 0, said
        assert "locked" not in said
    for run_id in runs:
        assert [step for step, _ in history(tracking, run_id, "loss/total")] == list(range(1, 201))


def test_two_drivers_that_start_at_the_same_moment_share_one_study_run(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (StudyRun(tracking, "mmnet", {"method": "mmnet"}) for _ in range(2))
    one.open({"search.seed": "0"})
    # the other looks before the run is made, and once more when it has made its own
    looks = iter([lambda: "", other._oldest_run])
    monkeypatch.setattr(other, "_oldest_run", lambda: next(looks)())
    other.open({"search.seed": "1"})
    assert other.run_id == one.run_id
    (run,) = one._search(KIND_STUDY)
    assert run.data.params == {"search.seed": "0"}


@pytest.mark.parametrize("cut_at", ["log_batch", "set_terminated"])
@pytest.mark.parametrize("same_process", [True, False])
def test_a_point_that_was_interrupted_while_it_was_written_has_one_run(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, cut_at: str, same_process: bool
) -> None:
    point = PointRun(
        3,
        "complete",
        {"lr": "0.1"},
        {"steps": 8.0},
        {50: {"miou": 0.2}},
        ended=datetime(2024, 5, 1),
    )
    study = StudyRun(tracking, "mmnet", {})
    study.open({})

    def dies(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(tracking.client, cut_at, dies)
        with pytest.raises(MlflowError):
            study.log_point(point)
    if not same_process:
        study = StudyRun(tracking, "mmnet", {})
        study.open({})
    study.log_point(point)
    (run,) = study._search(KIND_POINT)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.1"}
    assert history(tracking, run.info.run_id, "miou") == [(50, 0.2)]
    assert study.unfinished == {}
