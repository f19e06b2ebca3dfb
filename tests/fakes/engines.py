"""Functions that replace the engine in a job, and a channel that records their notes."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fssplat.common.errors import InputError
from fssplat.common.locks import lock
from fssplat.engine.events import Event, StepDone, TrainingDone, TrainingStarted, TrialScored
from fssplat.engine.scoring.rows import SCHEMA
from fssplat.engine.settings import Diverged, Interrupted
from fssplat.experiment.trial import Job
from fssplat.results.notes import Note

Emit = Callable[[Event], None]
Stop = Callable[[], bool]
PAUSE_S = 0.15  # after each step of a training that is meant to be killed


class RecordedNotes(list[Note]):
    """A channel that keeps every note; it asks the job to stop if `stopping`."""

    def __init__(self, stopping: bool = False) -> None:
        super().__init__()
        self.stopping = stopping

    def send(self, notes: list[Note]) -> bool:
        self += notes
        return self.stopping


def write_scores(one: Job, folder: Path, emit: Emit) -> None:
    """Write one scored episode and one panel per trial, in the engine's formats."""
    for trial_id in one.trial_ids:
        place = folder / "trials" / trial_id
        (place / "panels").mkdir(parents=True, exist_ok=True)
        row = {field.name: 1 if pa.types.is_integer(field.type) else "1" for field in SCHEMA}
        row |= {"supports": ["1"], "score": "original", "intersection": 1, "union": 2}
        pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), place / "episodes.parquet")
        (place / "panels" / "one.png").write_bytes(b"png")
        emit(TrialScored(trial_id, {"miou": 0.5, "fb_iou": 0.6, "iou/a": 0.5}, place))


def train_and_score(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Emit the events of a training of a few steps with its losses, then write scores."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = one.first.training.steps or 0
    emit(TrainingStarted(one.key, steps, 0, learnable=7))
    rows = [{"step": n, "lr": 0.1, "total": 1.0 / n} for n in range(1, steps + 1)]
    for row in rows:
        emit(StepDone(int(row["step"]), {"total": row["total"]}, row["lr"]))
    pq.write_table(pa.Table.from_pylist(rows), folder / "steps.parquet")
    emit(TrainingDone(1.0, 1000, folder / "weights.safetensors"))
    write_scores(one, folder, emit)


def train_small_network(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Train a small network with real checkpoints in milliseconds, then write scores."""
    from fssplat.engine.training.loop import train
    from tests.fakes.prototype_method import SquaresData, prototype_network, prototype_trial

    often = replace(settings, checkpoint_steps=4, fetch_steps=3)
    train(prototype_network(), prototype_trial(), SquaresData(), folder, emit, stop, often, one.key)
    write_scores(one, folder, emit)


def count_attempt(one: Job, folder: Path) -> int:
    """Append this attempt to the job's file `attempts` and return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "attempts").open("a") as stream:
        stream.write(f"{os.getpid()} {one.key}\n")
    return len((folder / "attempts").read_text().splitlines())


def score_after_pause(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Count the attempt, sleep half a second, write scores."""
    count_attempt(one, folder)
    time.sleep(0.5)
    write_scores(one, folder, emit)


def kill_worker_of_seed_0(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Kill the worker in every attempt of seed 0; write scores for other seeds."""
    if one.first.training.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write_scores(one, folder, emit)


def fail_by_seed(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Seed 1 diverges, seed 2 raises InputError, seed 3 ValueError; other seeds get scores."""
    seed = one.first.training.seed
    if seed == 1:
        raise Diverged(17, {"total": float("nan")})
    if seed == 2:
        raise InputError("class a has 1 image, shot=5 needs 6.")
    if seed == 3:
        raise ValueError("shapes do not match")
    write_scores(one, folder, emit)


def kill_seed_0_once_and_fail_by_seed(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """As `fail_by_seed`, but the worker of seed 0 is killed in its first attempt."""
    if count_attempt(one, folder) == 1 and one.first.training.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fail_by_seed(one, data, folder, emit, stop, settings)


def run_until_stopped(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Run until `stop` returns True (at most 30 s), then raise Interrupted at step 3."""
    count_attempt(one, folder)
    for _ in range(600):
        if stop():
            raise Interrupted(3)
        time.sleep(0.05)


def run_engine_slowly(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Run the engine with many checkpoints, slowly enough to be killed at any step.

    Fails if another process works on the same job. Writes each scored trial to the file `scored`.
    """
    from fssplat.engine.run import JobData, run_job

    def emit_slowly(event: Event) -> None:
        emit(event)
        if isinstance(event, StepDone):
            time.sleep(PAUSE_S)
        if isinstance(event, TrialScored):
            with (folder / "scored").open("a") as stream:
                stream.write(f"{event.trial_id}\n")

    count_attempt(one, folder)
    often = replace(settings, checkpoint_steps=2, fetch_steps=1)
    with lock(folder / "alone", timeout_s=0):
        run_job(one, JobData.open(one, data), folder, emit_slowly, stop, often)


def fail_if_started(
    one: Job, data: Mapping[str, str], folder: Path, emit: Emit, stop: Stop, settings: Any
) -> None:
    """Fail the test: this launch must not start any job."""
    raise AssertionError("a job was started")
