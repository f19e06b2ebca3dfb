"""Records in a job's folder at which steps its training was resumed, and the scores of weights."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from fssplat.common.whole_files import write_json
from fssplat.results.job_folder import TRAINING_FILE
from fssplat.results.reading import read_training_record
from fssplat.results.records import TrainingRecord


class TrainingNotes:
    """The `TrainingRecord` of one job, written whenever it changes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / TRAINING_FILE
        self._record = TrainingRecord()

    def start(self, first_step: int) -> None:
        """Begin at step 0, or go on after `first_step`, from which later scores are taken again."""
        self._record = TrainingRecord()
        if first_step == 0:
            self._path.unlink(missing_ok=True)
            return
        with suppress(OSError, ValueError):  # the attempt before wrote none, or it is damaged
            self._record = read_training_record(self._path.read_bytes())
        scores = {step: one for step, one in self._record.scores.items() if step <= first_step}
        self._write(TrainingRecord((*self._record.resumed, first_step), scores))

    def score(self, step: int, score: float) -> None:
        """Add the score of the weights after a step; mIoU, 0 to 1."""
        self._write(TrainingRecord(self._record.resumed, {**self._record.scores, step: score}))

    def _write(self, record: TrainingRecord) -> None:
        self._record = record
        write_json(self._path, asdict(record))
