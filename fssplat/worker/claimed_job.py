"""Run one job of a launch in a worker process: claim it, run it, record how it ended.

Nothing here imports Ray. The engine does the work and reports events; this module turns every way
in which a job can end into a state with a reason.
"""

import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError, described
from fssplat.common.printing import complain
from fssplat.engine.device import device_label, reserved_device
from fssplat.engine.events import Event
from fssplat.engine.job_data import JobData
from fssplat.engine.run import run_job
from fssplat.engine.settings import Diverged, Interrupted, RunSettings
from fssplat.experiment.trial import Job
from fssplat.planning.plan import unfinished
from fssplat.results.claims import Claim
from fssplat.results.job_folder import LOG_FILE, JobFolder
from fssplat.results.notes import JobEnded, JobProgress, JobStarted, JobUsage
from fssplat.results.source_code import record_training_source
from fssplat.results.store import Store
from fssplat.worker import retry_limit
from fssplat.worker.event_recorder import EventRecorder
from fssplat.worker.heartbeat import Channel, Heartbeat
from fssplat.worker.job_log import JobLog
from fssplat.worker.job_task import JobTask
from fssplat.worker.process import (
    Outcome,
    is_transient,
    reset_process,
    set_threads,
)
from fssplat.worker.resource_meter import Meter

UPLOAD_S = 30.0  # seconds between two uploads of a job's folder to a store behind an address

# (job, fingerprints of its data, folder to work in, emit, stop, settings)
Work = Callable[
    [Job, Mapping[str, str], Path, Callable[[Event], None], Callable[[], bool], RunSettings], Any
]


def perform(task: JobTask, channel: Channel, work: Work | None = None) -> Outcome:
    """Run a job to one of its ends. `work` replaces the engine in tests.

    Raises only errors that another attempt in a new process may not meet.
    """
    store, key = Store(task.store), task.job.key
    channel.send([JobProgress(key, "waiting for its claim", 0.0)])
    try:
        claim = store.claim_job(key, task.launch)
    except InputError as error:  # the store's disk is full or no longer writable
        return _end_unstarted(channel, key, Outcome("failed", str(error)))
    if claim is None:
        return _end_unstarted(channel, key, Outcome("busy", "another launch runs it"))
    with claim:
        states = store.states(task.job.trial_ids)
        job = unfinished(task.job, states)
        rerun = frozenset(one for one in job.trial_ids if states[one].rerun)
        if not job.trials:
            finished = Outcome("finished", "another launch finished it")
            return _end_unstarted(channel, key, finished)
        job_folder = JobFolder(store, key)
        log = JobLog(job_folder.folder / LOG_FILE, task.launch)
        upload, meter = _at_intervals(job_folder.upload), Meter()

        def beat() -> None:
            log.keep_short()
            upload()
            used = meter.read()
            if used is not None:
                heartbeat.add(JobUsage(key, *used))

        heartbeat = Heartbeat(channel, beat)
        device = device_label(reserved_device(task.gpu))
        if heartbeat.start(JobStarted(key, job.trial_ids, device)):
            return Outcome("interrupted", "the launch is stopping")
        outcome = Outcome("failed", "its worker died")
        try:
            recorder = EventRecorder(job, task, store, heartbeat, job_folder.upload, rerun)
            store.mark(job.trial_ids, "running", job=key, launch=task.launch, rerun=rerun)
            outcome = _run(
                job, task, store, job_folder, heartbeat, claim, work or run_engine, recorder, log
            )
        except InputError as error:  # the reason itself could not be written to the store
            outcome = Outcome("failed", str(error))
        finally:
            _close_log(log, job_folder, outcome, claim)
            heartbeat.end(JobEnded(key, outcome.state, outcome.reason))
            if not claim.lost.is_set():
                _remove_copy(job_folder, outcome)
            reset_process()
        return outcome


def _end_unstarted(channel: Channel, key: str, outcome: Outcome) -> Outcome:
    """Report the end of a job that did nothing here."""
    channel.send([JobEnded(key, outcome.state, outcome.reason)])
    return outcome


def run_engine(
    job: Job,
    fingerprints: Mapping[str, str],
    folder: Path,
    emit: Callable[[Event], None],
    stop: Callable[[], bool],
    settings: RunSettings,
) -> None:
    """Train and score with the engine. Data sets stay open between the jobs of a process."""
    run_job(job, JobData.open(job, fingerprints), folder, emit, stop, settings)


def _run(
    job: Job,
    task: JobTask,
    store: Store,
    job_folder: JobFolder,
    heartbeat: Heartbeat,
    claim: Claim,
    work: Work,
    recorder: EventRecorder,
    log: JobLog,
) -> Outcome:
    try:
        job_folder.download()
        log.start()
        record_training_source(job, job_folder.folder)
        died = retry_limit.record_attempt(
            store, job.key, task.launch, job_folder.folder, len(job.trials)
        )
        if died > task.retries:
            retry_limit.clear_attempts(store, job.key)
            reason = f"its worker died {died} times in a row without getting any further"
            if task.lost:
                reason += f"; last: {task.lost}. Lower training.batch or training.size"
            return recorder.close("failed", reason)
        set_threads(task.cpu)
        artefacts = store.folder / "artefacts" if store.folder is not None else None
        settings = RunSettings.of_job(job, task.gpu, artefacts)

        def stopping() -> bool:
            return heartbeat.stopping() or claim.lost.is_set()

        work(job, task.fingerprints, job_folder.folder, recorder.emit, stopping, settings)
        job_folder.upload()
    except Exception as error:
        if not isinstance(error, Interrupted | Diverged | InputError):
            log.add_traceback()
        if claim.lost.is_set():  # the job belongs to another launch now: write nothing
            return Outcome("busy", "another launch took it over")
        outcome = _end_by_error(error, job, store, job_folder, recorder)
        if is_transient(error):
            raise
    else:
        recorder.record_cost()
        outcome = recorder.close("failed", "the engine returned without a result for it")
    retry_limit.clear_attempts(store, job.key)
    return outcome


def _close_log(log: JobLog, job_folder: JobFolder, outcome: Outcome, claim: Claim) -> None:
    """End the log of an attempt and send it, unless another launch has the job now."""
    log.close(outcome.line)
    if not claim.lost.is_set():
        with suppress(Exception):  # the log must not change how the job ends
            job_folder.upload_log()


def _remove_copy(job_folder: JobFolder, outcome: Outcome) -> None:
    """Delete this machine's copy of the job's files. It stays if the store does not take them."""
    with suppress(Exception):
        if outcome.state == "failed":  # what it wrote since the last upload: a retry resumes there
            job_folder.upload()
        job_folder.remove()


def _end_by_error(
    error: Exception, job: Job, store: Store, job_folder: JobFolder, recorder: EventRecorder
) -> Outcome:
    """Record how a job ended that raised. Checkpoints are kept if it can resume or be examined."""
    if isinstance(error, Interrupted):
        job_folder.upload()
        return recorder.close("pending", f"stopped at step {error.step}", "interrupted")
    if isinstance(error, Diverged):
        job_folder.upload()
        return recorder.close("diverged", str(error))
    if isinstance(error, InputError):
        return recorder.close("failed", str(error))
    with suppress(InputError):  # a full disk has no room for it
        store.files.write(f"jobs/{job.key}/error.txt", traceback.format_exc().encode())
    return recorder.close("failed", described(error))


def _at_intervals(upload: Callable[[], None]) -> Callable[[], None]:
    """`upload`, at most every UPLOAD_S seconds. An error is printed: the store may be back soon."""
    last = [time.monotonic()]

    def upload_if_due() -> None:
        if time.monotonic() - last[0] >= UPLOAD_S:
            last[0] = time.monotonic()
            try:
                upload()
            except Exception as error:
                complain(f"the store did not take a checkpoint: {described(error)}")

    return upload_if_due
