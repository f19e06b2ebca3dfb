"""Record the engine's events: results and states go to the store, notes to the launch."""

import shutil
import socket
import time
from collections.abc import Callable, Container
from dataclasses import replace

from fssplat.engine.device import device_label, model_and_memory, reserved_device
from fssplat.engine.events import (
    EpisodesScored,
    Event,
    StepDone,
    TrainingDone,
    TrainingStarted,
    TrialScored,
    TrialSkipped,
    WeightsScored,
)
from fssplat.experiment.trial import Job
from fssplat.planning.cost import record_of
from fssplat.results.notes import JobProgress, LossAtStep, TrialDone, TrialEnded, curve_stride
from fssplat.results.records import State
from fssplat.results.source_code import recorded_source
from fssplat.results.store import Store
from fssplat.worker.heartbeat import Heartbeat
from fssplat.worker.job_task import JobTask
from fssplat.worker.process import Outcome
from fssplat.worker.speed import Speed
from fssplat.worker.training_notes import TrainingNotes


class EventRecorder:
    """Finishes a job's trials in the store as the engine scores them, and sends notes."""

    def __init__(
        self,
        job: Job,
        task: JobTask,
        store: Store,
        heartbeat: Heartbeat,
        upload: Callable[[], None],
        rerun: Container[str] = (),
    ) -> None:
        """`upload` copies the job's own files to a store behind an address.

        Trials in `rerun` have a result, which is kept until they have a new one.
        """
        self._rerun = rerun
        self._job, self._task, self._store, self._heartbeat = job, task, store, heartbeat
        self._upload = upload
        self._trials = dict(zip(job.trial_ids, job.trials, strict=True))
        self._unfinished = dict.fromkeys(job.trial_ids)
        self._started, self._started_at = time.monotonic(), time.time()
        self._steps, self._stride = 0, 1
        self._speed, self._scoring = Speed(), ""  # of the phase, and of which trial
        self._training_s, self._peak = 0.0, 0
        self._training = TrainingNotes(store.job_folder(job.key))
        self._whole = not job.trains  # whether this attempt does all the work of the job

    def emit(self, event: Event) -> None:
        """Take an event of the engine (an `Emit`)."""
        if isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, TrainingStarted):
            self._steps = event.steps
            self._stride = curve_stride(event.steps)
            self._whole = event.first_step == 0
            self._training.start(event.first_step)
            self._speed = Speed(event.first_step)
            done = event.first_step / max(1, event.steps)
            note = JobProgress(self._job.key, "training", done)
            self._heartbeat.add(replace(note, step=event.first_step, steps=event.steps))
        elif isinstance(event, WeightsScored):
            self._training.score(event.step, event.score)
        elif isinstance(event, TrainingDone):
            self._training_s, self._peak = event.seconds, event.peak_memory
        elif isinstance(event, EpisodesScored):
            self._scored(event)
        elif isinstance(event, TrialScored):
            self._finish(event)
        elif isinstance(event, TrialSkipped):
            self._end(event.trial_id, "skipped", event.reason)

    def close(self, state: State, reason: str, outcome: str = "") -> Outcome:
        """Give every trial without a result this state. Returns how the job ended.

        `outcome` is the job's state if it differs from its trials' state.
        """
        if not self._unfinished:
            return Outcome("finished")
        for trial_id in list(self._unfinished):
            self._end(trial_id, state, reason)
        return Outcome(outcome or state, reason)

    def record_cost(self) -> None:
        """Save what the job cost, unless this attempt did only a part of it."""
        if not self._whole or len(self._job.trials) < len(self._task.job.trials):
            return
        seconds = time.monotonic() - self._started
        device, memory = model_and_memory(reserved_device(self._task.gpu))
        record = record_of(self._job, seconds, self._peak, device, memory, self._task.images)
        self._store.record_job(self._job.key, record)

    def _step(self, event: StepDone) -> None:
        shown = event.step % self._stride == 0 or event.step in (1, self._steps)
        losses = (LossAtStep(event.step, dict(event.losses), event.lr),) if shown else ()
        done = event.step / max(1, self._steps)
        note = JobProgress(self._job.key, "training", done, losses, event.step, self._steps)
        speed = self._speed.per_s(event.step) * self._job.first.training.batch
        loss = event.losses.get("total")
        self._heartbeat.add(replace(note, loss=loss, episodes_per_s=speed))

    def _scored(self, event: EpisodesScored) -> None:
        before = len(self._trials) - len(self._unfinished)
        done = (before + event.done / max(1, event.total)) / len(self._trials)
        if self._scoring != event.trial_id:
            self._scoring, self._speed = event.trial_id, Speed(event.done)
        speed = self._speed.per_s(event.done)
        note = JobProgress(self._job.key, "scoring", done, (), event.done, event.total)
        self._heartbeat.add(replace(note, episodes_per_s=speed))

    def _end(self, trial_id: str, state: State, reason: str) -> None:
        self._store.mark([trial_id], state, reason, self._job.key, self._task.launch, self._rerun)
        self._unfinished.pop(trial_id, None)
        self._heartbeat.add(TrialEnded(self._job.key, trial_id, state, reason))

    def _finish(self, event: TrialScored) -> None:
        about = {
            **self._task.about,
            "launch": self._task.launch,
            "job": self._job.key,
            "host": socket.gethostname(),
            "device": device_label(reserved_device(self._task.gpu)),
            "started_at": self._started_at,
            "finished_at": time.time(),
            "training_seconds": self._training_s,
            **recorded_source(self._store, self._job.key, self._trials[event.trial_id]),
        }
        trial, metrics = self._trials[event.trial_id], event.metrics
        self._peak = max(self._peak, int(metrics.get("peak_memory_bytes", 0)))
        self._upload()  # the weights are in the store before any result that depends on them
        self._store.finish(trial, event.trial_id, event.folder, metrics, event.notes, about)
        shutil.rmtree(event.folder, ignore_errors=True)  # its files are in the store now
        del self._unfinished[event.trial_id]
        note = TrialDone(self._job.key, event.trial_id, dict(metrics), event.notes)
        self._heartbeat.add(note)
