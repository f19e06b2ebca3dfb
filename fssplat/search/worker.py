"""Run one point of a search in a worker process: train to each milestone, score, report.

Nothing here imports Ray or Optuna. The point's trainings stay in its folder until the point has
ended, so that a point that was cut resumes from its checkpoints.
"""

import contextlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError, described
from fssplat.common.json_files import json_value
from fssplat.common.locks import try_lock
from fssplat.common.whole_files import write_json
from fssplat.engine.job_data import JobData
from fssplat.engine.settings import Diverged, Interrupted, RunSettings
from fssplat.engine.staged_training import ScoredOn, StagedTraining, StageScore
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Job
from fssplat.results.store import Store
from fssplat.worker.heartbeat import Channel
from fssplat.worker.job_log import JobLog
from fssplat.worker.process import (
    Outcome,
    is_transient,
    reset_process,
    set_threads,
)

STUDIES_FOLDER = "searches"  # in the store: a folder per study
LOGS_FOLDER = "logs"  # in the study's folder: what each point printed
SCORES_FILE = "rungs.json"  # in the point's folder
ASK_S = 1.0  # seconds between two questions whether the search is stopping


@dataclass(frozen=True)
class PointTask:
    """All that a worker gets to run a point."""

    number: int  # of its Optuna trial
    values: Mapping[str, object]
    jobs: tuple[Job, ...]  # one training per fold and seed
    shares: tuple[float, ...]  # milestones: shares of a training at which it is scored
    scored_on: ScoredOn
    episodes: int  # per milestone
    folder: str  # of the study's points
    cpu: float = 1.0  # cores
    gpu: float = 0.0  # share of a GPU
    artefacts: str = ""  # folder for what methods compute beforehand; empty: the user's cache
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    launch: str = ""  # id of the search's record in the store
    store: str = ""  # address of the store if it is no folder: the point's log is sent there

    @property
    def log(self) -> Path:
        """What the point printed. It stays when the point's folder is deleted."""
        return Path(self.folder).parent / LOGS_FOLDER / f"{self.number}.txt"

    @property
    def key(self) -> str:
        """Digest of all that the point's scores depend on."""
        return digest([score_key(job) for job in self.jobs])


@dataclass(frozen=True)
class MilestoneScore:
    """A point's scores at one milestone, over all its trainings."""

    index: int  # counts from 1
    share: float
    miou: float  # mean, 0 to 1
    episodes_per_s: float  # mean
    parts: Mapping[str, float] = field(default_factory=dict)  # mIoU by training, e.g. fold0
    steps: int = 0  # optimiser steps up to here, all trainings together


Report = Callable[[MilestoneScore], None]
Objective = Callable[[PointTask, Path, Report, Callable[[], bool]], None]


def perform(
    task: PointTask, report: Report, channel: Channel, objective: Objective | None = None
) -> Outcome:
    """Run a point to one of its ends. `objective` replaces the engine in tests.

    Raises only errors that another attempt in a new process may not meet, and SystemExit, by which
    Ray Tune ends a pruned trial.
    """
    set_threads(task.cpu)
    try:
        return _run(task, report, channel, objective or train_to_milestones)
    except OSError as error:
        if not is_disk_full(error):
            raise
        return Outcome("full", described(error))  # its folder could not be made


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

        def report_score(score: MilestoneScore) -> None:
            last.update(as_metrics(score))
            report(dict(last))

        outcome = perform(unpacked(config["task"]), report_score, channel, self.objective)
        return {**last, "rung": None, "state": outcome.state, "reason": outcome.reason}


def as_metrics(score: MilestoneScore) -> dict[str, Any]:
    """A milestone's scores for Tune. `parts` is text: Tune flattens mappings."""
    return {
        "rung": score.index,
        "share": score.share,
        "miou": float(score.miou),
        "episodes_per_s": float(score.episodes_per_s),
        "parts": json.dumps(dict(score.parts) or {"all": float(score.miou)}),
        "steps": score.steps,
    }


def packed(task: PointTask) -> str:
    """A task as text, see `unpacked`."""
    plain = {**asdict(task), "jobs": [job.model_dump(mode="json") for job in task.jobs]}
    return json.dumps(plain)


def unpacked(text: str) -> PointTask:
    """The task that `packed` wrote."""
    plain = json.loads(text)
    found = [Job.model_validate(job) for job in plain.pop("jobs")]
    return PointTask(**{**plain, "jobs": tuple(found), "shares": tuple(plain["shares"])})


def _run(task: PointTask, report: Report, channel: Channel, objective: Objective) -> Outcome:
    with _folder(task) as folder:
        task.log.parent.mkdir(exist_ok=True)
        log = JobLog(task.log, task.launch)
        stopping = StopPoll(channel, log.keep_short)
        end = Outcome("pruned")
        try:
            log.start()
            objective(task, folder, report, stopping)
            end = Outcome("finished")
        except Interrupted as error:
            end = Outcome("interrupted", str(error))
        except Diverged as error:
            end = Outcome("diverged", str(error))
        except InputError as error:
            end = Outcome("full" if is_disk_full(error) else "failed", str(error))
        except Exception as error:
            log.add_traceback()
            end = Outcome(_state_after(error), described(error))
            if end.state == "interrupted":
                raise
        finally:
            log.close(end.line)
            _send_log(task)
            stopped = end.state == "pruned" and stopping(now=True)
            resumable = stopped or end.state in ("interrupted", "full")
            if not resumable:
                shutil.rmtree(folder, ignore_errors=True)
        return end


def _send_log(task: PointTask) -> None:
    """Send the point's log to a store that is no folder."""
    if task.store:
        study = Path(task.folder).parent.name
        with contextlib.suppress(Exception):  # the log must not change how the point ends
            Store(task.store).files.put(log_name(study, task.number), task.log)


def log_name(study: str, number: int) -> str:
    """The name of a point's log in the store."""
    return f"{STUDIES_FOLDER}/{study}/{LOGS_FOLDER}/{number}.txt"


def point_logs(store: Store, study: str) -> dict[int, bytes]:
    """What the points of a study printed, by number."""
    names = store.files.sizes(f"{STUDIES_FOLDER}/{study}/{LOGS_FOLDER}")
    numbers = sorted(int(name[:-4]) for name in names if name[:-4].isdecimal())
    found = {one: store.files.read(log_name(study, one)) for one in numbers}
    return {one: log for one, log in found.items() if log is not None}


def _state_after(error: Exception) -> str:
    if is_disk_full(error):
        return "full"
    return "interrupted" if is_transient(error) else "failed"


def train_to_milestones(
    task: PointTask, folder: Path, report: Report, stopping: Callable[[], bool]
) -> None:
    """Train all folds to a milestone, score them, report their mean; then continue to the next.

    Milestones that an earlier attempt reached are reported again from the point's folder.
    """
    known = scores_in(folder)
    for score in known:
        report(score)
    if len(known) == len(task.shares):
        return
    try:
        trainings = {name_of(job): _training(job, task, folder / job.key) for job in task.jobs}
        for index, share in enumerate(task.shares[len(known) :], start=len(known) + 1):
            parts = {name: one.advance_to(share, stopping) for name, one in trainings.items()}
            score = _mean(index, share, parts)
            known.append(score)
            write_json(folder / SCORES_FILE, [asdict(one) for one in known])
            report(score)
    finally:
        reset_process()


def _training(job: Job, task: PointTask, folder: Path) -> StagedTraining:
    data = JobData.open(job, task.fingerprints)
    artefacts = Path(task.artefacts) if task.artefacts else None
    settings = RunSettings.of_job(job, task.gpu, artefacts)
    return StagedTraining(job.first, data, folder, task.scored_on, task.episodes, settings, job.key)


def _mean(index: int, share: float, parts: Mapping[str, StageScore]) -> MilestoneScore:
    every = list(parts.values())
    return MilestoneScore(
        index,
        share,
        statistics.fmean(part.miou for part in every),
        statistics.fmean(part.episodes_per_s for part in every),
        {name: part.miou for name, part in parts.items()},
        sum(part.step for part in every),
    )


def score_key(job: Job) -> str:
    """Digest of a training and its scoring. `job.key` does not cover options of scoring alone."""
    return digest(job.key, job.first.method)


def name_of(job: Job) -> str:
    """The name of a training within its point, e.g. fold0_seed1."""
    seed = job.first.training.seed
    return f"fold{job.first.fold}" + (f"_seed{seed}" if seed else "")


def scores_in(folder: Path) -> list[MilestoneScore]:
    """The milestones that an earlier attempt at the point has reached; none if damaged."""
    try:
        return [MilestoneScore(**one) for one in json_value((folder / SCORES_FILE).read_bytes())]
    except (OSError, TypeError, ValueError):
        return []


class StopPoll:
    """Whether the search is stopping. Asks the board at most once a second."""

    def __init__(self, channel: Channel, at_each_poll: Callable[[], None]) -> None:
        self._channel, self._at_each_poll = channel, at_each_poll
        self._last = time.monotonic()
        self._stopping = False

    def __call__(self, now: bool = False) -> bool:
        if not self._stopping and (now or time.monotonic() - self._last >= ASK_S):
            self._last = time.monotonic()
            self._at_each_poll()
            self._stopping = self._channel.send([])
        return self._stopping


@contextlib.contextmanager
def _folder(task: PointTask) -> Iterator[Path]:
    """The point's folder, locked. The same point in another process gets another folder."""
    points = Path(task.folder)
    points.mkdir(parents=True, exist_ok=True)
    folder = points / task.key
    folder.mkdir(exist_ok=True)
    with try_lock(folder / "lock") or contextlib.nullcontext() as alone:
        if alone is None:  # another process runs the same point
            folder = points / f"{task.key}-{task.number}"
            folder.mkdir(exist_ok=True)
        yield folder
