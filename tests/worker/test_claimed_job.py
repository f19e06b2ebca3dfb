"""A job ends in one of a few ways, and the store records which."""

import os
from pathlib import Path

import pytest
import torch

from fssplat.common.errors import described
from fssplat.engine.settings import RunSettings
from fssplat.results.job_folder import JobFolder
from fssplat.results.notes import (
    JobEnded,
    JobProgress,
    JobStarted,
    TrialDone,
    TrialEnded,
    curve_stride,
)
from fssplat.results.store import Store
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from fssplat.worker.process import is_transient, reset_process
from tests.fakes.claims import job_claimed_by
from tests.fakes.engines import (
    RecordedNotes,
    fail_by_seed,
    run_until_stopped,
    train_and_score,
    write_scores,
)
from tests.fakes.trials import job, trial


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def task(store: Store, *trials: object, launch: str = "l1") -> JobTask:
    return JobTask(job(*trials), store.address, launch)  # type: ignore[arg-type]


def test_every_trial_of_a_job_is_finished_and_reported(store: Store) -> None:
    notes, one = RecordedNotes(), task(store, trial(shot=1), trial(shot=5))
    assert perform(one, notes, train_and_score).state == "finished"
    states = store.states(one.job.trial_ids)
    assert [status.state for status in states.values()] == ["finished", "finished"]
    assert [type(note) for note in notes if not isinstance(note, JobProgress)] == [
        JobStarted, TrialDone, TrialDone, JobEnded,
    ]  # fmt: skip
    points = [p.step for note in notes if isinstance(note, JobProgress) for p in note.points]
    assert points == [1, 2, 3, 4]
    assert store.job_records()[one.job.key].method == "panet"
    assert store.results(one.job.trial_ids)[one.job.trial_ids[0]].about["launch"] == "l1"


def test_a_finished_job_is_not_run_again(store: Store) -> None:
    one = task(store)
    perform(one, RecordedNotes(), score_only)
    outcome = perform(one, RecordedNotes(), never_called)
    assert (outcome.state, outcome.reason) == ("finished", "another launch finished it")


def test_only_the_trials_without_a_result_are_scored(store: Store) -> None:
    both = task(store, trial(shot=1), trial(shot=5))
    perform(task(store, trial(shot=1)), RecordedNotes(), score_only)
    seen: list[int] = []

    def look(one, *rest):  # type: ignore[no-untyped-def]
        seen.extend(t.shot for t in one.trials)
        write_scores(one, rest[1], rest[2])

    assert perform(both, RecordedNotes(), look).state == "finished"
    assert seen == [5]


def test_scoring_existing_weights_keeps_the_record_of_their_training(store: Store) -> None:
    first = task(store, trial(shot=1))
    perform(first, RecordedNotes(), train_and_score)
    record = store.job_records()[first.job.key]
    more = task(store, trial(shot=5))
    assert more.job.key == first.job.key
    assert perform(more, RecordedNotes(), score_only).state == "finished"
    assert store.job_records() == {first.job.key: record}


def test_a_job_that_reserved_no_gpu_runs_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    devices = [RunSettings.of_job(job(), gpu, None).device.type for gpu in (0.0, 0.5)]
    assert devices == ["cpu", "cuda"]


@pytest.mark.parametrize(
    ("seed", "state", "reason"),
    [
        (1, "diverged", "diverged at step 17: total nan"),
        (2, "failed", "class a has 1 image, shot=5 needs 6."),
        (3, "failed", "ValueError: shapes do not match"),
    ],
)
def test_a_job_that_cannot_finish_gives_the_reason(
    store: Store, seed: int, state: str, reason: str
) -> None:
    notes, one = RecordedNotes(), task(store, trial(seed))
    outcome = perform(one, notes, fail_by_seed)
    status = store.states(one.job.trial_ids)[one.job.trial_ids[0]]
    assert (outcome.state, status.state) == (state, state)
    assert status.reason == outcome.reason == reason
    assert [note.reason for note in notes if isinstance(note, TrialEnded)] == [reason]
    assert not store.job_held(one.job.key)


def test_a_skipped_trial_is_reported_with_its_reason_and_not_run_again(store: Store) -> None:
    from fssplat.engine.events import TrialSkipped

    def skip(one, data, folder, emit, stop, settings):  # type: ignore[no-untyped-def]
        emit(TrialSkipped(one.trial_ids[0], "no class has 6 images"))

    one = task(store)
    assert perform(one, RecordedNotes(), skip).state == "finished"
    status = store.states(one.job.trial_ids)[one.job.trial_ids[0]]
    assert (status.state, status.reason) == ("skipped", "no class has 6 images")
    assert perform(one, RecordedNotes(), never_called).state == "finished"


def test_a_stopped_job_is_pending_with_its_step_as_the_reason(store: Store) -> None:
    class StopsLater(RecordedNotes):
        def send(self, notes):  # type: ignore[no-untyped-def]
            super().send(notes)
            return len(self) > 2 or not notes

    one = task(store)
    outcome = perform(one, StopsLater(), run_until_stopped)
    assert outcome.state == "interrupted"
    status = store.states(one.job.trial_ids)[one.job.trial_ids[0]]
    assert (status.state, status.reason) == ("pending", "stopped at step 3")


def test_a_launch_that_is_stopping_starts_nothing(store: Store) -> None:
    assert perform(task(store), RecordedNotes(stopping=True), never_called).state == "interrupted"


def test_a_job_that_another_launch_runs_is_busy(store: Store) -> None:
    one = task(store)
    with job_claimed_by("other", store, one.job.key):
        outcome = perform(one, RecordedNotes(), never_called)
    assert (outcome.state, outcome.reason) == ("busy", "another launch runs it")


def test_a_transient_error_is_raised_so_that_the_job_runs_again(store: Store) -> None:
    def torn(*_):  # type: ignore[no-untyped-def]
        raise ConnectionResetError("the bucket went away")

    one = task(store)
    with pytest.raises(ConnectionResetError):
        perform(one, RecordedNotes(), torn)
    assert not store.job_held(one.job.key)
    assert perform(one, RecordedNotes(), score_only).state == "finished"


def test_a_failed_job_leaves_its_files_in_a_remote_store_and_nothing_on_the_machine(
    tmp_path: Path,
) -> None:
    def fail(one, data, folder, *_):  # type: ignore[no-untyped-def]
        (folder / "checkpoint").write_text("step 3")
        raise ValueError("shapes")

    store = Store(f"memory://{tmp_path.name}")
    one = task(store)
    assert perform(one, RecordedNotes(), fail).state == "failed"
    assert store.files.read(f"jobs/{one.job.key}/checkpoint") == b"step 3"
    assert not store.scratch.exists()


def test_files_that_a_remote_store_does_not_take_stay_on_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(one, data, folder, *_):  # type: ignore[no-untyped-def]
        (folder / "checkpoint").write_text("step 3")
        monkeypatch.setattr(JobFolder, "upload", torn)
        raise ValueError("shapes")

    def torn(*_):  # type: ignore[no-untyped-def]
        raise ConnectionResetError("the bucket went away")

    store = Store(f"memory://{tmp_path.name}")
    one = task(store)
    assert perform(one, RecordedNotes(), fail).state == "failed"
    assert (store.job_folder(one.job.key) / "checkpoint").is_file()


def test_a_long_reason_is_cut_and_whole_in_the_log(store: Store) -> None:
    def fail(*_):  # type: ignore[no-untyped-def]
        raise ValueError("x" * 400)

    one = task(store)
    reason = perform(one, RecordedNotes(), fail).reason
    assert reason == f"ValueError: {'x' * 285}..."
    log = store.files.read(f"jobs/{one.job.key}/log.txt") or b""
    assert f"ValueError: {'x' * 400}".encode() in log


def test_a_full_disk_is_no_transient_error() -> None:
    import errno

    assert is_transient(ConnectionResetError())
    assert is_transient(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_transient(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_transient(ValueError("shapes"))
    assert described(ValueError("first\nsecond")) == "ValueError: first"


def test_a_curve_has_at_most_two_hundred_steps() -> None:
    assert curve_stride(10) == 1
    assert curve_stride(20_000) == 100
    assert curve_stride(0) == 1


def test_a_reused_process_gets_its_defaults_back() -> None:
    import torch

    torch.set_grad_enabled(False)
    reset_process()
    assert torch.is_grad_enabled()


def test_a_reused_process_returns_freed_memory() -> None:
    held = [bytes(2000) for _ in range(200_000)]  # small blocks, which glibc keeps when they go
    kept, between = held[::100], resident()
    del held
    reset_process()
    assert resident() < between - 200e6
    assert len(kept) == 2000


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def score_only(one, data, folder, emit, stop, settings):  # type: ignore[no-untyped-def]
    write_scores(one, folder, emit)


def never_called(*_):  # type: ignore[no-untyped-def]
    os.abort()
