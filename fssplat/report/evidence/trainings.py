"""The loss curves and the events of trainings, from the folders of their jobs in the store."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from fssplat.common.json_files import is_count, json_object
from fssplat.common.plain_names import is_plain_path
from fssplat.experiment.trial import Trial
from fssplat.report.evidence.gather import Evidence
from fssplat.results.files import Files
from fssplat.results.job_folder import TRAINING_FILE
from fssplat.results.reading import content, read_training_record
from fssplat.results.records import TrainingRecord

WHOLE, PARTS, DIVERGED = "steps.parquet", "steps", "diverged.json"

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """One training, whose weights one or more trials use."""

    job: str
    trial: Trial  # one of those that use it
    trials: tuple[str, ...]  # ids of all that use it
    steps: npt.NDArray[np.int64]  # [n] that the store has a loss of, ascending
    losses: Numbers  # [n] as minimised
    record: TrainingRecord = field(default_factory=TrainingRecord)
    diverged: int = 0  # step of the first loss that is not finite; 0 if there is none


def jobs_of(evidence: Evidence) -> dict[str, list[str]]:
    """The ids of the trials of each job that trained, by the job's key, in the order of trials."""
    found: dict[str, list[str]] = {}
    for trial_id, trial in evidence.trials.items():
        result = evidence.results.get(trial_id)
        job = str(result.about.get("job") or "") if result else evidence.states[trial_id].job
        if job and is_plain_path(job) and trial.training.steps != 0:
            found.setdefault(job, []).append(trial_id)
    return found


def read_training(evidence: Evidence, job: str, ids: list[str]) -> Training | None:
    """One training; None if the store has no losses of it, with a problem noted for damage."""
    files = evidence.stores[ids[0]].files
    names = [f"jobs/{job}/{name}" for name in (WHOLE, TRAINING_FILE, DIVERGED)]
    found = files.read_many(names)
    parts = [found[names[0]]] if names[0] in found else list(_parts(files, job))
    if not parts:
        return None
    try:
        curves = [_curve(content(part)) for part in parts]
    except ValueError as error:
        evidence.note(ids[0], f"the losses of its training {error}")
        return None
    steps, losses = (np.concatenate(arrays) for arrays in zip(*curves, strict=True))
    record = TrainingRecord()
    if names[1] in found:
        try:
            record = read_training_record(found[names[1]])
        except ValueError as error:
            evidence.note(ids[0], f"the {TRAINING_FILE} of its job is damaged: {error}")
    step = _diverged_at(found.get(names[2]))
    return Training(job, evidence.trials[ids[0]], tuple(ids), steps, losses, record, step)


def _parts(files: Files, job: str) -> Iterator[bytes | OSError]:
    """The parts that a training has written so far, in the order of their steps."""
    names = sorted(name for name in files.sizes(f"jobs/{job}/{PARTS}") if is_plain_path(name))
    found = files.read_many([f"jobs/{job}/{PARTS}/{name}" for name in names])
    yield from (found[name] for name in sorted(found))


def _curve(parquet: bytes) -> tuple[npt.NDArray[np.int64], Numbers]:
    """Steps and total losses. Raises ValueError for a damaged file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table: Any = pq.read_table(BytesIO(parquet), columns=["step", "total"])
        return (
            table["step"].to_numpy().astype(np.int64),
            table["total"].to_numpy().astype(np.float64),
        )
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise ValueError(f"cannot be read ({str(error).splitlines()[0]})") from error


def _diverged_at(data: bytes | OSError | None) -> int:
    try:
        step = json_object(data).get("step") if isinstance(data, bytes) else 0
    except ValueError:
        return 0
    return int(step) if is_count(step) and isinstance(step, int) else 0
