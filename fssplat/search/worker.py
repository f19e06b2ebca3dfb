"""What happens to a point in a worker process: climb from milestone to milestone, score, report.

Nothing here imports Ray or Optuna. A point's folder holds its trainings until the point has an end
of its own, so that a point that was cut goes on where it was.
"""

import contextlib
import json
import math
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError
from fssplat.common.locks import try_lock
from fssplat.common.whole_files import write_json
from fssplat.engine.settings import Diverged, Interrupted, RunSettings
from fssplat.engine.staged_training import ScoredOn, StagedTraining, StageScore
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Job
from fssplat.worker.heartbeat import Channel
from fssplat.worker.process import (
    Outcome,
    describe,
    is_transient,
    reset_process,
    set_threads,
)

RUNGS = "rungs.json"
ASK_S = 1.0  # seconds between two looks whether the search is stopping


@dataclass(frozen=True)
class PointTask:
    """All that a worker is told about a point."""

    number: int  # of its Optuna trial
    values: Mapping[str, object]
    jobs: tuple[Job, ...]  # one training per fold and seed
    rungs: tuple[float, ...]  # shares of the trainings at which they are scored
    look: ScoredOn
    episodes: int
    folder: str  # of the study's points
    cpu: float = 1.0
    gpu: float = 0.0  # share of one
    artefacts: str = ""  # what methods compute beforehand; empty: the user's cache folder
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Names the point by all that its worth depends on."""
        return digest([worth_key(job) for job in self.jobs])


@dataclass(frozen=True)
class Rung:
    """A point's worth at one milestone, over all its trainings."""

    index: int  # counts from 1
    share: float
    miou: float  # mean, 0 to 1
    episodes_per_s: float  # mean
    parts: Mapping[str, float] = field(default_factory=dict)  # mIoU by training, e.g. fold0
    steps: int = 0  # optimiser steps up to here, all trainings together


Report = Callable[[Rung], None]
Objective = Callable[[PointTask, Path, Report, Callable[[], bool]], None]


def perform(
    task: PointTask, report: Report, channel: Channel, objective: Objective | None = None
) -> Outcome:
    """Run a point to one of its ends. Raises what another try in a new process may cure, and
    lets the exit pass by which Ray Tune ends a pruned trial."""
    set_threads(task.cpu)
    try:
        return _performed(task, report, Asked(channel), objective or climb)
    except OSError as error:
        if not is_disk_full(error):
            raise
        return Outcome("full", describe(error))  # not even its folder could be made


@dataclass(frozen=True)
class PerformPoint:
    """Runs a point for Ray Tune: each milestone is a report, the outcome is the last one."""

    objective: Objective | None = None  # None: train and score

    def __call__(
        self,
        config: Mapping[str, Any],
        channel: Channel,
        report: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        last: dict[str, Any] = {"miou": math.nan, "episodes_per_s": math.nan}  # required by Tune

        def report_rung(rung: Rung) -> None:
            last.update(as_metrics(rung))
            report(dict(last))

        outcome = perform(unpacked(config["task"]), report_rung, channel, self.objective)
        return {**last, "rung": None, "state": outcome.state, "reason": outcome.reason}


def as_metrics(rung: Rung) -> dict[str, Any]:
    """A milestone's scores for Tune. `parts` is text: Tune flattens mappings."""
    return {
        "rung": rung.index,
        "share": rung.share,
        "miou": float(rung.miou),
        "episodes_per_s": float(rung.episodes_per_s),
        "parts": json.dumps(dict(rung.parts) or {"all": float(rung.miou)}),
        "steps": rung.steps,
    }


def packed(task: PointTask) -> str:
    """A task as text, see `unpacked`."""
    plain = {**asdict(task), "jobs": [job.model_dump(mode="json") for job in task.jobs]}
    return json.dumps(plain)


def unpacked(text: str) -> PointTask:
    """The task that `packed` wrote."""
    plain = json.loads(text)
    found = [Job.model_validate(job) for job in plain.pop("jobs")]
    return PointTask(**{**plain, "jobs": tuple(found), "rungs": tuple(plain["rungs"])})


def _performed(task: PointTask, report: Report, stopping: "Asked", objective: Objective) -> Outcome:
    with _folder(task) as folder:
        end = Outcome("pruned")
        try:
            objective(task, folder, report, stopping)
            end = Outcome("finished")
        except Interrupted as error:
            end = Outcome("interrupted", str(error))
        except Diverged as error:
            end = Outcome("diverged", str(error))
        except InputError as error:
            end = Outcome("full" if is_disk_full(error) else "failed", str(error))
        except Exception as error:
            end = Outcome(_ended_by(error), describe(error))
            _keep(task, traceback.format_exc())
            if end.state == "interrupted":
                raise
        finally:
            asked = end.state == "pruned" and stopping(now=True)
            cut = asked or end.state in ("interrupted", "full")
            if not cut:
                shutil.rmtree(folder, ignore_errors=True)
        return end


def _keep(task: PointTask, text: str) -> None:
    """What went wrong in full; the point's own folder goes with its end."""
    errors = Path(task.folder).parent / "errors"
    with contextlib.suppress(OSError):  # a full disk has no room for it
        errors.mkdir(exist_ok=True)
        (errors / f"point-{task.number}.txt").write_text(text)


def _ended_by(error: Exception) -> str:
    if is_disk_full(error):
        return "full"
    return "interrupted" if is_transient(error) else "failed"


def climb(task: PointTask, folder: Path, report: Report, stopping: Callable[[], bool]) -> None:
    """Train all folds to a milestone, score them, report their mean; then the next one."""
    known = rungs_in(folder)
    for rung in known:
        report(rung)
    if len(known) == len(task.rungs):
        return
    try:
        climbs = {name_of(job): _begun(job, task, folder / job.key) for job in task.jobs}
        for index, share in enumerate(task.rungs[len(known) :], start=len(known) + 1):
            rung = _reached(
                index, share, {n: c.advance_to(share, stopping) for n, c in climbs.items()}
            )
            known.append(rung)
            write_json(folder / RUNGS, [asdict(one) for one in known])
            report(rung)
    finally:
        reset_process()


def _begun(job: Job, task: PointTask, folder: Path) -> StagedTraining:
    from fssplat.engine.run import JobData

    data = JobData.open(job, task.fingerprints)
    artefacts = Path(task.artefacts) if task.artefacts else None
    settings = RunSettings.of_job(job, task.gpu, artefacts)
    return StagedTraining(job.first, data, folder, task.look, task.episodes, settings, job.key)


def _reached(index: int, share: float, heights: Mapping[str, StageScore]) -> Rung:
    every = list(heights.values())
    return Rung(
        index,
        share,
        statistics.fmean(height.miou for height in every),
        statistics.fmean(height.episodes_per_s for height in every),
        {name: height.miou for name, height in heights.items()},
        sum(height.step for height in every),
    )


def worth_key(job: Job) -> str:
    """Names a training with its scores: weights alone leave out options that only scoring reads."""
    return digest(job.key, job.first.method)


def name_of(job: Job) -> str:
    """A training within its point."""
    seed = job.first.training.seed
    return f"fold{job.first.fold}" + (f"_seed{seed}" if seed else "")


def rungs_in(folder: Path) -> list[Rung]:
    """What an earlier try at the point has reached."""
    path = folder / RUNGS
    return [Rung(**one) for one in json.loads(path.read_text())] if path.is_file() else []


class Asked:
    """Whether the search is stopping; asks at most once a second, so that it costs no step."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._last = time.monotonic()
        self._stopping = False

    def __call__(self, now: bool = False) -> bool:
        if not self._stopping and (now or time.monotonic() - self._last >= ASK_S):
            self._last = time.monotonic()
            self._stopping = self._channel.send([])
        return self._stopping


@contextlib.contextmanager
def _folder(task: PointTask) -> Iterator[Path]:
    """The point's folder, to itself: a twin that runs at the same time gets one of its own."""
    points = Path(task.folder)
    points.mkdir(parents=True, exist_ok=True)
    folder = points / task.key
    folder.mkdir(exist_ok=True)
    with try_lock(folder / "lock") or contextlib.nullcontext() as alone:
        if alone is None:
            folder = points / f"{task.key}-{task.number}"
            folder.mkdir(exist_ok=True)
        yield folder
