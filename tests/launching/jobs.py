"""Small trials and jobs, and work that stands in for the engine."""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fssplat.common.errors import InputError
from fssplat.data.index import DatasetInfo
from fssplat.engine.events import Event, StepDone, TrainingDone, TrainingStarted, TrialScored
from fssplat.engine.scoring.scorer import SCHEMA
from fssplat.engine.settings import Diverged, Interrupted
from fssplat.experiment.grid import Job, Trial, jobs
from fssplat.experiment.protocols import PROTOCOLS
from fssplat.experiment.schema import (
    BackboneSpec,
    DatasetSpec,
    EvaluationSpec,
    MethodSpec,
    TrainingSpec,
)
from fssplat.planning.plan import PlannedJob
from fssplat.results.notes import Note
from fssplat.worker.claimed_job import Task, perform

Emit = Callable[[Event], None]
Stop = Callable[[], bool]
FINGERPRINT = "0" * 16
PAUSE_S = 0.15  # after each step of a training that is meant to be killed


def trial(
    seed: int = 0, shot: int = 1, method: str = "panet", steps: int = 4, fold: int = 0
) -> Trial:
    data = DatasetSpec(name="synthetic")
    return Trial(
        dataset=data,
        train_on=data,
        fold=fold,
        shot=shot,
        method=MethodSpec(name=method),
        backbone=BackboneSpec(name="resnet50"),
        training=TrainingSpec(steps=steps, seed=seed),
        protocol=PROTOCOLS["fssplat"],
        evaluation=EvaluationSpec(),
        method_version=1,
    )


def job(*trials: Trial) -> Job:
    (only,) = jobs(list(trials) or [trial()], {})
    return only


def planned(one: Job, seconds: float = 1.0, gpu: float = 0.0) -> PlannedJob:
    return PlannedJob(one, seconds, seconds, False, gpu, 1.0)


def experiment(folder: Path, **settings: str) -> Path:
    """An experiment file over a data set that has a description and no pictures."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    info = DatasetInfo("synthetic", ("a",), "test", "", FINGERPRINT, {"train": 100}, ())
    (data / "dataset.json").write_text(json.dumps(asdict(info)))
    values = {
        "name": "small",
        "dataset": "synthetic",
        "datasets": f"{{synthetic: {{name: synthetic, root: {data}}}}}",
        "store": str(folder / "store"),
        "grid": "{method: [panet], shot: [1, 5], seed: [0, 1]}",
        "training": "{steps: 4}",
        **settings,
    }
    path = folder / "small.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    return path


class Notes(list[Note]):
    """A channel that keeps what it is told."""

    def __init__(self, stopping: bool = False) -> None:
        super().__init__()
        self.stopping = stopping

    def tell(self, notes: list[Note]) -> bool:
        self += notes
        return self.stopping


# ------------------------------------------------------------------ work


def score(one: Job, folder: Path, emit: Emit) -> None:
    """One scored episode per trial, as the engine would leave it."""
    for trial_id in one.trial_ids:
        place = folder / "trials" / trial_id
        (place / "panels").mkdir(parents=True, exist_ok=True)
        row = {field.name: 1 if pa.types.is_integer(field.type) else "1" for field in SCHEMA}
        row |= {"supports": ["1"], "score": "original", "intersection": 1, "union": 2}
        pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), place / "episodes.parquet")
        (place / "panels" / "one.png").write_bytes(b"png")
        emit(TrialScored(trial_id, {"miou": 0.5, "fb_iou": 0.6, "iou/a": 0.5}, place))


def learn(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """A training of a few steps with its losses, then a score."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = one.first.training.steps or 0
    emit(TrainingStarted(one.key, steps, 0, learnable=7))
    rows = [{"step": n, "lr": 0.1, "total": 1.0 / n} for n in range(1, steps + 1)]
    for row in rows:
        emit(StepDone(int(row["step"]), {"total": row["total"]}, row["lr"]))
    pq.write_table(pa.Table.from_pylist(rows), folder / "steps.parquet")
    emit(TrainingDone(1.0, 1000, folder / "weights.safetensors"))
    score(one, folder, emit)


def tiny(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """A real training in milliseconds with real checkpoints, then a score."""
    from fssplat.engine.training.loop import train
    from tests.engine.tiny import TinyData, tiny_network, tiny_trial

    often = replace(settings, checkpoint_steps=4, fetch_steps=3)
    train(tiny_network(), tiny_trial(), TinyData(), folder, emit, stop, often, one.key)
    score(one, folder, emit)


def note_run(one: Job, folder: Path) -> int:
    """Leave a trace of this attempt; how many there have been."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "attempts").open("a") as stream:
        stream.write(f"{os.getpid()} {one.key}\n")
    return len((folder / "attempts").read_text().splitlines())


def slow(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Half a second of work that is counted."""
    note_run(one, folder)
    time.sleep(0.5)
    score(one, folder, emit)


def killed_always(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Seed 0's worker is killed whenever it tries."""
    if one.first.training.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    score(one, folder, emit)


def various(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Each seed ends in another way."""
    seed = one.first.training.seed
    if seed == 1:
        raise Diverged(17, {"total": float("nan")})
    if seed == 2:
        raise InputError("class a has 1 image, shot=5 needs 6.")
    if seed == 3:
        raise ValueError("shapes do not match")
    score(one, folder, emit)


def various_after_a_kill(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """The same, after seed 0's worker was killed in its first attempt."""
    if note_run(one, folder) == 1 and one.first.training.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    various(one, data, folder, emit, stop, settings)


def patient(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Works until it is asked to stop."""
    note_run(one, folder)
    for _ in range(600):
        if stop():
            raise Interrupted(3)
        time.sleep(0.05)


def careful(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """The engine with many checkpoints, slow enough to be killed anywhere.

    Fails where another process works on the same job; notes each trial that it has scored.
    """
    from fssplat.engine.run import JobData, run_job

    def heard(event: Event) -> None:
        emit(event)
        if isinstance(event, StepDone):
            time.sleep(PAUSE_S)
        if isinstance(event, TrialScored):
            with (folder / "scored").open("a") as stream:
                stream.write(f"{event.trial_id}\n")

    note_run(one, folder)
    often = replace(settings, checkpoint_steps=2, fetch_steps=1)
    with (folder / "alone").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        run_job(one, JobData.open(one, data), folder, heard, stop, often)


def never(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """For launches that must not start any job."""
    raise AssertionError("a job was started")


def other_launch(store: str) -> None:
    """Another process that works through three jobs until each has its result."""
    left = [job(trial(seed)) for seed in range(3)]
    while left:
        ends = [perform(Task(one, store, "other"), Notes(), slow) for one in left]
        left = [one for one, end in zip(left, ends, strict=True) if end.state == "busy"]
        time.sleep(0.1)


if __name__ == "__main__":
    other_launch(sys.argv[1])
