"""What happens in a worker process: claim a job, run it, put every result in the store.

Nothing here imports Ray. The engine does the work and tells of it in events; this module passes
them on and turns every way a job can end into a state with a reason.
"""

import ctypes
import gc
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError
from fssplat.engine.device import model_and_memory, reserved_device, reset_device
from fssplat.engine.events import (
    EpisodesScored,
    Event,
    StepDone,
    TrainingDone,
    TrainingStarted,
    TrialScored,
    TrialSkipped,
)
from fssplat.engine.settings import Diverged, Interrupted, RunSettings
from fssplat.experiment.grid import Job
from fssplat.planning.cost import record_of
from fssplat.planning.plan import unfinished
from fssplat.results.claims import Claim
from fssplat.results.notes import (
    JobEnded,
    JobProgress,
    JobStarted,
    JobUsage,
    LossAtStep,
    TrialDone,
    TrialEnded,
    curve_stride,
)
from fssplat.results.store import Mirror, State, Store
from fssplat.worker import retry_limit as lives
from fssplat.worker.heartbeat import Channel, Pulse
from fssplat.worker.resource_meter import Meter

MIRROR_S = 30.0  # seconds between two copies of a job's folder to a store behind an address
RETRIES = 3  # of a job whose worker died, each from its checkpoint; getting further starts anew
TRANSIENT = (OSError, EOFError, MemoryError)  # worth another try in a fresh process

# (job, fingerprints of its data, folder to work in, emit, stop, settings)
Work = Callable[
    [Job, Mapping[str, str], Path, Callable[[Event], None], Callable[[], bool], RunSettings], Any
]


@dataclass(frozen=True)
class Task:
    """All that a worker is told about a job."""

    job: Job
    store: str
    launch: str
    cpu: float = 1.0
    gpu: float = 0.0
    images: Mapping[str, int] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)  # data the plan was made with
    about: Mapping[str, Any] = field(default_factory=dict)  # kept beside each result
    retries: int = RETRIES


@dataclass(frozen=True)
class Outcome:
    """How a job ended: finished, failed, diverged, skipped, interrupted or busy."""

    key: str
    state: str
    reason: str = ""


def perform(task: Task, channel: Channel, work: Work | None = None) -> Outcome:
    """Run a job to one of its ends. Raises only what another try in a new process may cure."""
    store, key = Store(task.store), task.job.key
    try:
        claim = store.claim_job(key, task.launch)
    except InputError as error:  # the store's disk is full or cannot be written any more
        return Outcome(key, "failed", str(error))
    if claim is None:
        return Outcome(key, "busy", "another launch runs it")
    with claim:
        job = unfinished(task.job, store.states(task.job.trial_ids))
        if not job.trials:
            return Outcome(key, "finished", "another launch finished it")
        mirror = Mirror(store, key)
        push, meter = _now_and_then(mirror.push), Meter()

        def beat() -> None:
            push()
            used = meter.read()
            if used is not None:
                pulse.add(JobUsage(key, *used))

        pulse = Pulse(channel, beat)
        if pulse.start(JobStarted(key, job.trial_ids)):
            return Outcome(key, "interrupted", "the launch is stopping")
        outcome = Outcome(key, "failed", "its worker died")
        try:
            outcome = _run(job, task, store, mirror, pulse, claim, work or engine_work)
        except InputError as error:  # not even the reason could be written down
            outcome = Outcome(key, "failed", str(error))
        finally:
            pulse.end(JobEnded(key, outcome.state, outcome.reason))
            reset_process()
        return outcome


def engine_work(
    job: Job,
    fingerprints: Mapping[str, str],
    folder: Path,
    emit: Callable[[Event], None],
    stop: Callable[[], bool],
    settings: RunSettings,
) -> None:
    """The real work. Data sets stay open between the jobs of a process."""
    from fssplat.engine.run import JobData, run_job

    run_job(job, JobData.open(job, fingerprints), folder, emit, stop, settings)


def _run(
    job: Job, task: Task, store: Store, mirror: Mirror, pulse: Pulse, claim: Claim, work: Work
) -> Outcome:
    store.mark(job.trial_ids, "running", job=job.key, launch=task.launch)
    scribe = Scribe(job, task, store, pulse, mirror.push)
    try:
        mirror.pull()
        died = lives.deaths(store, job.key, task.launch, mirror.folder, len(job.trials))
        if died > task.retries:
            lives.survived(store, job.key)
            reason = f"its worker died {died} times in a row without getting any further"
            return scribe.close("failed", reason)
        set_threads(task.cpu)
        settings = settings_of(job, store, task.gpu)

        def stopping() -> bool:
            return pulse.stopping() or claim.lost.is_set()

        work(job, task.fingerprints, mirror.folder, scribe.hear, stopping, settings)
        mirror.push()
    except Exception as error:
        if claim.lost.is_set():  # nothing of it is ours to write any more
            return Outcome(job.key, "busy", "another launch took it over")
        outcome = _cut_short(error, job, store, mirror, scribe)
        if is_transient(error):
            raise
    else:
        scribe.record()
        outcome = scribe.close("failed", "the engine returned without a result for it", "finished")
    lives.survived(store, job.key)
    if outcome.state != "failed":
        mirror.drop()
    return outcome


def _cut_short(
    error: Exception, job: Job, store: Store, mirror: Mirror, scribe: "Scribe"
) -> Outcome:
    """How a job ends that raised; its checkpoints are kept where it can go on or be looked at."""
    if isinstance(error, Interrupted):
        mirror.push()
        return scribe.close("pending", f"stopped at step {error.step}", "interrupted")
    if isinstance(error, Diverged):
        mirror.push()
        return scribe.close("diverged", str(error))
    if isinstance(error, InputError):
        return scribe.close("failed", str(error))
    with suppress(InputError):  # a full disk has no room for it
        store.files.write(f"jobs/{job.key}/error.txt", traceback.format_exc().encode())
    return scribe.close("failed", describe(error))


class Scribe:
    """Hears the engine's events: finishes trials in the store, tells the board."""

    def __init__(
        self, job: Job, task: Task, store: Store, pulse: Pulse, push: Callable[[], None]
    ) -> None:
        self._job, self._task, self._store, self._pulse = job, task, store, pulse
        self._push = push  # brings the job's own files into a store behind an address
        self._trials = dict(zip(job.trial_ids, job.trials, strict=True))
        self._left = dict.fromkeys(job.trial_ids)
        self._started = time.monotonic()
        self._steps, self._stride = 0, 1
        self._training_s, self._peak = 0.0, 0
        self._whole = not job.trains  # whether this attempt does all that the job costs

    def hear(self, event: Event) -> None:
        """An `Emit`."""
        if isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, TrainingStarted):
            self._steps = event.steps
            self._stride = curve_stride(event.steps)
            self._whole = event.first_step == 0
        elif isinstance(event, TrainingDone):
            self._training_s, self._peak = event.seconds, event.peak_memory
        elif isinstance(event, EpisodesScored):
            self._scored(event)
        elif isinstance(event, TrialScored):
            self._trial(event)
        elif isinstance(event, TrialSkipped):
            self._end(event.trial_id, "skipped", event.reason)

    def close(self, state: State, reason: str, outcome: str = "") -> Outcome:
        """Give every trial that has no result this state; say how the job ended."""
        if not self._left:
            return Outcome(self._job.key, "finished")
        for trial_id in list(self._left):
            self._end(trial_id, state, reason)
        ended = outcome if outcome not in ("", "finished") else state
        return Outcome(self._job.key, ended, reason)

    def record(self) -> None:
        """Keep what the job cost, unless only a part of it ran."""
        if not self._whole or len(self._job.trials) < len(self._task.job.trials):
            return
        seconds = time.monotonic() - self._started
        device, memory = model_and_memory(reserved_device(self._task.gpu))
        record = record_of(self._job, seconds, self._peak, device, memory, self._task.images)
        self._store.record_job(self._job.key, record)

    def _step(self, event: StepDone) -> None:
        shown = event.step % self._stride == 0 or event.step in (1, self._steps)
        points = (LossAtStep(event.step, dict(event.losses), event.lr),) if shown else ()
        done = event.step / max(1, self._steps)
        self._pulse.add(JobProgress(self._job.key, "training", done, points))

    def _scored(self, event: EpisodesScored) -> None:
        before = len(self._trials) - len(self._left)
        done = (before + event.done / max(1, event.total)) / len(self._trials)
        self._pulse.add(JobProgress(self._job.key, "scoring", done))

    def _end(self, trial_id: str, state: State, reason: str) -> None:
        self._store.mark([trial_id], state, reason, self._job.key, self._task.launch)
        self._left.pop(trial_id, None)
        self._pulse.add(TrialEnded(self._job.key, trial_id, state, reason))

    def _trial(self, event: TrialScored) -> None:
        about = {
            **self._task.about,
            "launch": self._task.launch,
            "job": self._job.key,
            "host": socket.gethostname(),
            "finished_at": time.time(),
            "training_seconds": self._training_s,
        }
        trial = self._trials[event.trial_id]
        self._peak = max(self._peak, int(event.metrics.get("peak_memory_bytes", 0)))
        self._push()  # the weights are there before any result that comes from them
        self._store.finish(trial, event.trial_id, event.folder, event.metrics, event.notes, about)
        shutil.rmtree(event.folder, ignore_errors=True)  # its files are in the store now
        del self._left[event.trial_id]
        self._pulse.add(TrialDone(self._job.key, event.trial_id, dict(event.metrics), event.notes))


# ------------------------------------------------------------------ the process


def settings_of(job: Job, store: Store, gpu: float) -> RunSettings:
    """How the engine runs here; a store in a folder shares its artefacts between jobs."""
    artefacts = store.folder / "artefacts" if store.folder is not None else None
    return RunSettings.of_job(job, gpu, artefacts)


def set_threads(cpu: float) -> None:
    """As many threads as cores were reserved, or jobs beside each other would fight for them."""
    import torch

    torch.set_num_threads(max(1, int(cpu)))


def reset_process() -> None:
    """Leave a reused process as the next job expects it: no memory held, no switch left on."""
    gc.collect()
    return_memory()
    reset_device()


def return_memory() -> None:
    """Give what was freed back to the system; glibc keeps it, gigabytes after some dozen jobs."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_transient(error: BaseException) -> bool:
    """Whether the same job may well succeed in a fresh process."""
    lost_device = "CUDA error" in str(error) or "NCCL" in str(error)
    missing = isinstance(error, FileNotFoundError | PermissionError)
    return (isinstance(error, TRANSIENT) and not is_disk_full(error) and not missing) or lost_device


def describe(error: BaseException) -> str:
    """An exception as one line for a person."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300] if first else type(error).__name__


def _now_and_then(push: Callable[[], None]) -> Callable[[], None]:
    """`push`, at most every MIRROR_S; a store that is away for a moment costs nothing."""
    last = [time.monotonic()]

    def due() -> None:
        if time.monotonic() - last[0] >= MIRROR_S:
            last[0] = time.monotonic()
            try:
                push()
            except Exception as error:
                print(f"fssplat: the store did not take a checkpoint: {describe(error)}")

    return due
