"""What MLflow shows after servers were silent, calls failed and processes died."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fssplat.results.claims import claim
from fssplat.results.notes import JobProgress, JobStarted, LossAtStep, TrialDone
from fssplat.results.store import Store
from fssplat.tracking.dead_launches import DeadLaunches
from fssplat.tracking.delivery import Delivery, sync
from fssplat.tracking.runs import Tracking, open_tracking
from fssplat.tracking.server.connection import (
    MlflowError,
    check_writable,
)
from fssplat.tracking.studies import StudyRun
from fssplat.worker.job_task import JobTask
from tests.fakes.tracked_jobs import history, reopened, runs, scored, tags, trials_of
from tests.fakes.trials import trial


def delivered(tracking: Tracking, store: Store, task: JobTask, warned: list[str]) -> Delivery:
    """A delivery that was told of the job's start and of all its trials, and has ended."""
    delivery = Delivery(tracking, store, trials_of(task), tags, warned.append)
    delivery.on_note(JobStarted(task.job.key, task.job.trial_ids))
    for trial_id in task.job.trial_ids:
        delivery.on_note(TrialDone(task.job.key, trial_id, {"miou": 0.5}))
    delivery.close()
    return delivery


def test_a_silent_server_delays_nothing_and_gets_everything_later(
    tracking: Tracking, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, warned = scored(store), []

    def silent(*_: Any, **__: Any) -> None:
        raise ConnectionError("refused")

    with monkeypatch.context() as patch:
        for name in ("create_run", "log_batch", "set_terminated"):
            patch.setattr(tracking.client, name, silent)
        delivery = delivered(tracking, store, task, warned)
    assert delivery.missed == set(task.job.trial_ids)
    assert len(warned) == 1
    assert warned[0].startswith("MLflow is not available")
    assert sync(tracking, store, trials_of(task), tags) == 2


def test_a_curve_has_all_steps_after_a_call_failed(
    tracking: Tracking, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = scored(store)
    key, points = task.job.key, [LossAtStep(step, {"total": 1.0 / step}, 0.1) for step in (1, 2, 3)]
    monkeypatch.setattr("fssplat.tracking.delivery.FLUSH_S", 0.0)  # after each note
    monkeypatch.setattr("fssplat.tracking.delivery.PAUSE_S", 0.0)
    curve, fails = tracking.log_curve, iter([False, False, False, True])

    def one_fails(run_id: str, points: list[LossAtStep]) -> None:
        if next(fails, False):  # the second run's second part
            raise MlflowError("refused")
        curve(run_id, points)

    monkeypatch.setattr(tracking, "log_curve", one_fails)
    delivery = Delivery(tracking, store, trials_of(task), tags, lambda line: None)
    delivery.on_note(JobStarted(key, task.job.trial_ids))
    for point in points:
        delivery.on_note(JobProgress(key, "training", 0.5, (point,)))
    delivery.close()
    assert next(fails, None) is None  # the failure was met
    for run in runs(tracking):
        steps = [step for step, _ in history(tracking, run.info.run_id, "loss/total")]
        assert steps == [1, 2, 3]


def test_a_delivery_adds_the_steps_that_a_curve_lacks(tracking: Tracking, store: Store) -> None:
    task = scored(store)
    for trial_id, one in trials_of(task).items():
        tracking.log_curve(
            tracking.start_run(one, trial_id, {}), [LossAtStep(3, {"total": 1 / 3}, 0.1)]
        )
    assert sync(tracking, store, trials_of(task), tags) == 2
    for run in runs(tracking):
        steps = [step for step, _ in history(tracking, run.info.run_id, "loss/total")]
        assert steps == [1, 2, 3, 4]


def test_steps_of_a_batch_that_failed_halfway_are_not_sent_twice(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = tracking.start_run(trial(), "t1", {})
    points = [LossAtStep(step, {"total": 0.0}, 0.1) for step in range(1, 701)]  # two batches
    log_batch, fails = tracking.client.log_batch, iter([False, True])

    def second_fails(*arguments: Any, **named: Any) -> None:
        if next(fails, False):
            raise ConnectionError("timed out")
        log_batch(*arguments, **named)

    monkeypatch.setattr(tracking.client, "log_batch", second_fails)
    with pytest.raises(MlflowError):
        tracking.log_curve(run_id, points)
    tracking.log_curve(run_id, points)
    assert [step for step, _ in history(tracking, run_id, "lr")] == list(range(1, 701))


@pytest.mark.parametrize("same_process", [True, False])
def test_a_diverged_training_that_starts_again_shows_only_its_new_losses(
    tracking: Tracking, store: Store, same_process: bool
) -> None:
    task = scored(store)
    for trial_id, one in trials_of(task).items():
        dead = [LossAtStep(step, {"total": 100.0 * step}, 0.1) for step in (1, 2, 3)]
        tracking.log_curve(tracking.start_run(one, trial_id, {}), dead)
        tracking.end_without_result(trial_id, "diverged", "at step 4")
    if not same_process:
        tracking.runs.clear()
    assert sync(tracking, store, trials_of(task), tags) == 2
    assert len(runs(tracking)) == 2
    for run in runs(tracking):
        assert run.info.status == "FINISHED"
        losses = [value for _, value in history(tracking, run.info.run_id, "loss/total")]
        assert losses == [1.0, 0.5, pytest.approx(1 / 3), 0.25]


def test_a_trial_that_cannot_be_delivered_does_not_stop_the_others(
    tracking: Tracking, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = scored(store)
    first, second = task.job.trial_ids
    deliver = tracking.deliver

    def one_fails(trial: Any, trial_id: str, *rest: Any) -> None:
        if trial_id == first:
            raise MlflowError("its steps.parquet is damaged")
        deliver(trial, trial_id, *rest)

    monkeypatch.setattr(tracking, "deliver", one_fails)
    with pytest.raises(MlflowError, match="1 of 2 results were not delivered"):
        sync(tracking, store, trials_of(task), tags)
    assert [run.data.tags["fssplat.trial_id"] for run in runs(tracking)] == [second]


def test_a_run_that_was_interrupted_before_its_parameters_gets_them_later(
    tracking: Tracking, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = scored(store)

    def silent(*_: Any, **__: Any) -> None:
        raise ConnectionError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(tracking.client, "log_batch", silent)
        with pytest.raises(MlflowError):
            tracking.start_run(task.job.first, task.job.trial_ids[0], {})
    tracking.runs.clear()  # as in the next process
    sync(tracking, store, trials_of(task), tags)
    assert len(runs(tracking)) == 2
    assert all(run.data.params["method.name"] == "panet" for run in runs(tracking))


def test_another_process_that_ends_does_not_remove_our_write_ahead_log(tmp_path: Path) -> None:
    """SQLite's locks are the process's: closing the file anywhere in it would drop them, and the
    next process to end would take itself for the last one and remove the log."""
    path = tmp_path / "mlflow.db"
    tracking = open_tracking(f"sqlite:///{path}", "first")
    tracking.start_run(trial(), "t1", {})
    log = path.with_name("mlflow.db-wal")
    assert log.is_file()
    check_writable(tracking.connection.uri)
    other = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('select * from runs')"
    subprocess.run([sys.executable, "-c", other, str(path)], check=True)
    assert log.is_file()


def refuse_files(*_: Any, **__: Any) -> None:
    raise PermissionError(13, "Permission denied", "/proc/mlflow/artifacts")


def test_numbers_arrive_and_runs_end_when_files_cannot_be_uploaded(
    tracking: Tracking, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, warned = scored(store), []
    with monkeypatch.context() as patch:
        for name in ("log_artifact", "log_artifacts", "log_model_artifacts"):
            patch.setattr(tracking.client, name, refuse_files)
        delivery = delivered(tracking, store, task, warned)
        tracking.end_launch("FINISHED", {"trials/finished": 2.0}, [store.folder], "note")
    assert (delivery.missed, warned) == (set(), [])
    for run in runs(tracking):
        assert run.info.status == "FINISHED"
        assert run.data.metrics["miou"] == 0.5
        assert run.data.tags["fssplat.files"].startswith("missing: PermissionError")
    parent = tracking.client.get_run(tracking.parent)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials/finished"] == 2.0
    line = tracking.artefacts.problem("`fssplat sync x.yaml`")
    assert "lacks the files of 3 runs" in line
    assert "mlartifacts" in line  # the address
    assert "`fssplat sync x.yaml` delivers the files" in line
    assert "away" not in line
    again = reopened(tracking)  # the artefact store works again
    assert sync(again, store, trials_of(task), tags) == 2
    assert sync(again, store, trials_of(task), tags) == 0
    for run in runs(again):
        assert run.info.status == "FINISHED"
        assert "fssplat.files" not in run.data.tags
        assert len(history(again, run.info.run_id, "miou")) == 1
        files = {item.path for item in again.client.list_artifacts(run.info.run_id)}
        assert {"spec.json", "training"} <= files


def test_runs_of_a_killed_launch_end_with_the_next_one(tracking: Tracking, store: Store) -> None:
    store.files.write("launches/l1/experiment.json", b"{}")
    run_id = tracking.start_run(trial(), "t1", {})
    following = reopened(tracking)
    own_claim = claim(store.files, "launches/l1/claim", "l1")
    assert own_claim is not None
    assert DeadLaunches(following, store).end_runs() == 0  # it still runs
    own_claim.release()
    other = Store.open(store.address + "-other")
    assert DeadLaunches(following, other).end_runs() == 0  # not a launch of that store
    assert DeadLaunches(following, store).end_runs() == 1
    for name in (run_id, tracking.parent):
        assert following.client.get_run(name).info.status == "KILLED"
    assert following.start_run(trial(), "t1", {}) != ""


def test_the_run_of_a_search_ends_when_all_of_its_drivers_are_dead(
    tracking: Tracking, store: Store
) -> None:
    for driver in ("s1", "s2"):
        store.files.write(f"launches/{driver}/experiment.json", b"{}")
        StudyRun(tracking, "mmnet", {}).open({}, driver)
    study = StudyRun(tracking, "mmnet", {})
    study.open({})
    dead = DeadLaunches(reopened(tracking), store)
    own_claim = claim(store.files, "launches/s2/claim", "s2")
    assert own_claim is not None
    assert dead.end_runs() == 0  # one of the two still runs
    own_claim.release()
    assert dead.end_runs() == 1
    assert tracking.client.get_run(study.run_id).info.status == "KILLED"


def test_the_claim_of_another_machine_is_dead_after_a_minute_without_change(
    tracking: Tracking, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.files.write("launches/l1/experiment.json", b"{}")
    beat = {"owner": "l1", "host": "elsewhere", "pid": 1, "token": "a", "beat": 3}
    store.files.write("launches/l1/claim", json.dumps(beat).encode())
    dead = DeadLaunches(reopened(tracking), store)
    assert dead.end_runs() == 0
    monkeypatch.setattr("fssplat.tracking.dead_launches.EXPIRY_S", -1.0)
    store.files.write("launches/l1/claim", json.dumps({**beat, "beat": 4}).encode())
    assert dead.end_runs() == 0  # it counted up
    assert dead.end_runs() == 1


def test_a_job_without_an_end_leaves_no_running_run(tracking: Tracking, store: Store) -> None:
    task = scored(store)
    delivery = Delivery(tracking, store, trials_of(task), tags, print)
    delivery.on_note(JobStarted(task.job.key, task.job.trial_ids))
    delivery.close()
    assert {run.info.status for run in runs(tracking)} == {"KILLED"}
