"""What the folder of a job records of its training, beside the losses."""

from pathlib import Path

import pytest

from fssplat.engine.events import TrainingStarted, WeightsScored
from fssplat.results.job_folder import TRAINING_FILE
from fssplat.results.reading import read_training_record
from fssplat.results.records import TrainingRecord
from fssplat.results.store import Store
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from fssplat.worker.training_notes import TrainingNotes
from tests.fakes.engines import RecordedNotes, write_scores
from tests.fakes.trials import job


def recorded(folder: Path) -> TrainingRecord:
    return read_training_record((folder / TRAINING_FILE).read_bytes())


def test_scores_after_the_step_of_a_resume_are_taken_again(tmp_path: Path) -> None:
    notes = TrainingNotes(tmp_path)
    notes.start(0)
    for step, score in ((10, 0.25), (20, 0.5), (30, 0.125)):
        notes.score(step, score)
    again = TrainingNotes(tmp_path)
    again.start(20)
    assert recorded(tmp_path) == TrainingRecord((20,), {10: 0.25, 20: 0.5})
    again.score(30, 0.75)
    TrainingNotes(tmp_path).start(35)
    assert recorded(tmp_path) == TrainingRecord((20, 35), {10: 0.25, 20: 0.5, 30: 0.75})
    TrainingNotes(tmp_path).start(0)
    assert not (tmp_path / TRAINING_FILE).exists()


def test_a_damaged_record_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / TRAINING_FILE).write_text('{"resumed": [-1], "scores": {}}')
    TrainingNotes(tmp_path).start(5)
    assert recorded(tmp_path) == TrainingRecord((5,), {})


@pytest.mark.parametrize("address", ["{}/store", "memory://{}"])
def test_a_job_records_its_events_in_the_store(tmp_path: Path, address: str) -> None:
    def resume(one, data, folder, emit, stop, settings):  # type: ignore[no-untyped-def]
        emit(TrainingStarted(one.key, 9, 3, learnable=7))
        emit(WeightsScored(9, 0.5))
        write_scores(one, folder, emit)

    store = Store.open(address.format(tmp_path))
    task = JobTask(job(), store.address, "l1")
    assert perform(task, RecordedNotes(), resume).state == "finished"
    data = store.files.read(f"jobs/{task.job.key}/{TRAINING_FILE}")
    assert data is not None
    assert read_training_record(data) == TrainingRecord((3,), {9: 0.5})
