"""MLflow on real SQLite files: everything arrives, and arrives once."""

import json
import math
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fssplat.common.errors import InputError
from fssplat.experiment.schema import MlflowSpec
from fssplat.results.claims import claim
from fssplat.results.notes import JobEnded, JobProgress, JobStarted, JobUsage, LossAtStep, TrialDone
from fssplat.results.store import Store
from fssplat.tracking.connection import (
    MlflowError,
    check_writable,
    sqlite_path,
    tracking_uri,
)
from fssplat.tracking.dead_launches import DeadLaunches
from fssplat.tracking.delivery import Delivery, sync
from fssplat.tracking.names import flattened
from fssplat.tracking.runs import Tracking, open_tracking
from fssplat.tracking.studies import KIND_POINT, KIND_STUDY, PointRun, StudyRun
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from tests.fakes.engines import RecordedNotes, train_and_score
from tests.fakes.trials import job, trial


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database whose schema is made once; each test has its own experiment in it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def tracking(database: str, request: pytest.FixtureRequest) -> Tracking:
    found = open_tracking(database, request.node.name)
    found.start_launch("l1", "small", {})
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def reopened(tracking: Tracking) -> Tracking:
    """The same experiment as another process opens it."""
    name = tracking.client.get_experiment(tracking.experiment_id).name
    return open_tracking(tracking.connection.uri, name)


def tags(_: Any) -> dict[str, str]:
    return {"fssplat.git_commit": "abc"}


def scored(store: Store) -> JobTask:
    """A job with two finished trials in the store."""
    task = JobTask(job(trial(shot=1), trial(shot=5)), store.address, "l1")
    perform(task, RecordedNotes(), train_and_score)
    return task


def trials_of(task: JobTask) -> dict[str, Any]:
    return dict(zip(task.job.trial_ids, task.job.trials, strict=True))


def runs(tracking: Tracking) -> list[Any]:
    found = tracking.client.search_runs([tracking.experiment_id])
    return [run for run in found if run.data.tags["fssplat.kind"] == "trial"]


def history(tracking: Tracking, run_id: str, name: str) -> list[tuple[int, float]]:
    rows = tracking.client.get_metric_history(run_id, name)
    return sorted((row.step, row.value) for row in rows)


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


def test_a_silent_server_delays_nothing_and_gets_everything_later(
    tracking: Tracking, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, warned = scored(store), []

    def silent(*_: Any, **__: Any) -> None:
        raise ConnectionError("refused")

    with monkeypatch.context() as patch:
        for name in ("create_run", "log_batch", "set_terminated"):
            patch.setattr(tracking.client, name, silent)
        delivery = Delivery(tracking, store, trials_of(task), tags, warned.append)
        delivery.on_note(JobStarted(task.job.key, task.job.trial_ids))
        for trial_id in task.job.trial_ids:
            delivery.on_note(TrialDone(task.job.key, trial_id, {"miou": 0.5}))
        delivery.close()
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
        delivery = Delivery(tracking, store, trials_of(task), tags, warned.append)
        delivery.on_note(JobStarted(task.job.key, task.job.trial_ids))
        for trial_id in task.job.trial_ids:
            delivery.on_note(TrialDone(task.job.key, trial_id, {"miou": 0.5}))
        delivery.close()
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
