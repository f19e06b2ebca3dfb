"""Jobs with results, and what MLflow shows of them."""

from typing import Any

from fssplat.results.store import Store
from fssplat.tracking.runs import Tracking, open_tracking
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from tests.fakes.engines import RecordedNotes, train_and_score
from tests.fakes.trials import job, trial


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
