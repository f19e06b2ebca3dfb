"""Jobs on a real Ray: workers die, two launches run at once, and every trial still ends once."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fssplat.common.errors import InputError
from fssplat.launching.cluster import Cluster
from fssplat.launching.context import LaunchContext
from fssplat.launching.job_run import run
from fssplat.launching.stop_request import StopRequest
from fssplat.planning.absolute_paths import absolute_job
from fssplat.planning.packing import PlannedJob
from fssplat.results.notes import Note, TrialDone
from fssplat.results.store import Store
from tests.fakes.engines import (
    kill_seed_0_once_and_fail_by_seed,
    kill_worker_of_seed_0,
    run_until_stopped,
    score_after_pause,
)
from tests.fakes.trials import job, planned_job, trial

SECOND_LAUNCH = [sys.executable, "-m", "tests.fakes.processes.second_launch"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def launched(
    count: int, work: Any, store: Store, machines: Cluster, launch: str = "l1", **settings: Any
) -> tuple[tuple[PlannedJob, ...], list[Note], StopRequest]:
    jobs = tuple(planned_job(job(trial(seed)), 10 - seed) for seed in range(count))
    notes: list[Note] = []
    context = LaunchContext(store, launch, notes.append, work=work, **settings)
    return jobs, notes, run(jobs, context, machines)


def states(jobs: tuple[PlannedJob, ...], store: Store) -> list[str]:
    found = store.states(i for item in jobs for i in item.job.trial_ids)
    return [status.state for status in found.values()]


def attempts(item: PlannedJob, store: Store) -> list[str]:
    return (store.job_folder(item.job.key) / "attempts").read_text().splitlines()


def test_each_job_ends_in_its_own_way_and_a_killed_worker_is_replaced(
    store: Store, machines: Cluster
) -> None:
    jobs, notes, stop = launched(5, kill_seed_0_once_and_fail_by_seed, store, machines)
    assert states(jobs, store) == ["finished", "diverged", "failed", "failed", "finished"]
    assert [len(attempts(item, store)) for item in jobs] == [2, 1, 1, 1, 1]
    assert sum(isinstance(note, TrialDone) for note in notes) == 2
    assert not stop.requested.is_set()


@pytest.mark.slow
def test_a_store_that_the_workers_do_not_share_ends_the_launch_with_one_message(
    store: Store, machines: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "announce", lambda self, launch: None)  # as in another node's folder
    jobs, _, stop = launched(3, score_after_pause, store, machines)
    assert "does not see this launch in store" in stop.reason
    assert "--set store=" in stop.reason
    assert states(jobs, store) == ["pending"] * 3


def test_workers_get_absolute_paths() -> None:
    one = trial()
    one = one.model_copy(
        update={
            "backbone": one.backbone.model_copy(update={"weights": "weights/resnet50.pth"}),
            "training": one.training.model_copy(update={"checkpoint": "~/model"}),
        }
    )
    found = absolute_job(job(one)).first
    assert found.backbone.weights == str(Path.cwd() / "weights/resnet50.pth")
    assert found.training.checkpoint == str(Path.home() / "model")
    assert Path(found.dataset.root).is_absolute()
    assert absolute_job(job(trial())).first.backbone.weights == "auto"
    assert absolute_job(job(trial())).first.training.checkpoint == ""


@pytest.mark.slow
def test_a_job_that_kills_every_worker_fails_with_this_reason_and_no_other_job_fails(
    store: Store, machines: Cluster
) -> None:
    jobs, _, _ = launched(2, kill_worker_of_seed_0, store, machines, retries=1)
    assert states(jobs, store) == ["failed", "finished"]
    reason = store.states(jobs[0].job.trial_ids)[jobs[0].job.trial_ids[0]].reason
    assert reason == "its worker died 2 times in a row without getting any further"


@pytest.mark.slow
def test_two_launches_at_once_run_each_job_once(
    store: Store, machines: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fssplat.launching.job_run.BUSY_S", 0.3)
    other = subprocess.Popen([*SECOND_LAUNCH, store.address])
    jobs, _, _ = launched(3, score_after_pause, store, machines)
    assert other.wait(timeout=60) == 0
    assert states(jobs, store) == ["finished"] * 3
    assert [len(attempts(item, store)) for item in jobs] == [1, 1, 1]


def test_a_stop_lets_running_jobs_write_a_checkpoint_and_starts_no_other(
    store: Store, machines: Cluster
) -> None:
    asked = threading.Thread(target=_when, args=(lambda: _running(store) > 0, store))
    asked.start()
    jobs, _, stop = launched(5, run_until_stopped, store, machines, "l1")
    asked.join()
    assert stop.requested.is_set()
    assert states(jobs, store) == ["pending"] * 5
    found = store.states(i for item in jobs for i in item.job.trial_ids)
    cut = [status for status in found.values() if status.reason == "stopped at step 3"]
    assert 1 <= len(cut) <= machines.cpus


def test_only_a_signal_shortens_the_wait_after_a_stop_request() -> None:
    """`fssplat stop` is read every two seconds, and every running job may meet a full disk."""
    stop = StopRequest()
    for _ in range(3):
        stop.request()
        stop.request(reason="no space left")
    assert stop.requested.is_set()
    assert not stop.immediate
    stop.request(2)
    assert stop.immediate
    signalled = StopRequest()
    signalled.request(15)
    assert (signalled.signal, signalled.immediate) == (15, False)


def test_resources_that_no_machine_has_are_refused_before_the_start(
    store: Store, machines: Cluster
) -> None:
    wide = planned_job(job(), gpu=4.0)
    with pytest.raises(InputError, match="needs 1 cores and 4 GPUs on one machine"):
        run((wide,), LaunchContext(store, "l1", print), machines)


def _running(store: Store) -> int:
    return len(list((store.folder or Path()).glob("jobs/*/attempts")))


def _when(ready: Callable[[], bool], store: Store) -> None:
    """Ask the launch to stop, as `fssplat stop` does, once `ready` returns True."""
    end = time.monotonic() + 200
    while not ready() and time.monotonic() < end:
        time.sleep(0.05)
    store.request_stop("l1")
