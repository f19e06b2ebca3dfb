"""Run the jobs of a plan on Ray: longest first, workers reused, every end recorded.

Each launch runs what the store says is unfinished, so that a resume, a larger grid and a retry are
the same thing.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fssplat.common.passwords import hidden
from fssplat.experiment.trial import Job
from fssplat.launching.board import OpenBoard, open_board
from fssplat.launching.cluster import Cluster
from fssplat.launching.context import MAX_RESTARTS, UNSEEN, LaunchContext
from fssplat.launching.run_record import watch_stop_file
from fssplat.launching.stop_request import StopRequest, stop_on_signals
from fssplat.launching.tune_run import Report, as_config, background, fit
from fssplat.planning.absolute_paths import absolute_job
from fssplat.planning.packing import PlannedJob
from fssplat.planning.share import without_holder
from fssplat.results.claims import EXPIRY_S
from fssplat.results.store import Store
from fssplat.worker.claimed_job import Work, perform
from fssplat.worker.heartbeat import Channel
from fssplat.worker.job_task import JobTask
from fssplat.worker.process import Outcome

FETCH_S = 0.5  # seconds between two fetches of notes from the board
FETCH_STOPPING_S = 0.05  # the same after a stop request
BUSY_S = 5.0  # seconds between two looks at jobs that another launch runs


def run(pending: tuple[PlannedJob, ...], context: LaunchContext, cluster: Cluster) -> StopRequest:
    """Run the jobs to their ends. Returns whether, and by which signal, it was stopped early.

    Raises InputError for resources that the cluster lacks, and RayLostError if Ray ends. A job that
    fails is recorded in the store with its reason; the others go on.
    """
    cluster.check(pending)
    context.store.announce(context.launch)
    stop = StopRequest()
    with (
        stop_on_signals(stop),
        open_board() as board,
        background(partial(_pass_notes_on, board, context, stop)),
        background(partial(watch_stop_file, context.store, context.launch, stop)),
    ):
        left = pending if context.share is None else tuple(context.share.order(pending))
        while left and not stop.requested.is_set():
            outcomes = _run_once(left, context, board, stop)
            busy = [key for key, end in outcomes.items() if end.state == "busy"]
            if busy and context.share is not None:
                busy = without_holder(context.store, busy, stop.requested)
            left = tuple(item for item in left if item.job.key in busy)
            if left and context.share is None:
                _wait_for_other_launches(left, context, stop)
    return stop


def _run_once(
    pending: tuple[PlannedJob, ...], context: LaunchContext, board: OpenBoard, stop: StopRequest
) -> dict[str, Outcome]:
    """Run every job once. Returns how each ended, by its key.

    Jobs that another launch holds come last; a launch that is one of several leaves them out.
    """
    from fssplat.launching.tune_hooks import JobSearcher, OutcomeCallback  # imports Ray

    callback = OutcomeCallback({item.job.key: item.job for item in pending}, context, stop)
    left_out: dict[str, Outcome] = {}
    fit(
        _performer(context),
        JobSearcher(map(_config, _free_first(pending, context, left_out)), stop),
        board,
        stop,
        idle=lambda: not callback.running,
        retries=MAX_RESTARTS,
        say=context.say,
        callbacks=[callback],
        max_concurrent=context.max_concurrent,
        grace_s=context.grace_s,
    )
    return callback.outcomes | left_out


def _free_first(
    pending: tuple[PlannedJob, ...], context: LaunchContext, left_out: dict[str, Outcome]
) -> Iterator[PlannedJob]:
    """Jobs in the order in which they start; each is looked at when Tune has room for it."""
    held = []
    for item in pending:
        if context.store.job_held(item.job.key):
            held.append(item)
        else:
            yield item
    for item in held:
        if context.share is None or not context.store.job_held(item.job.key):
            yield item
        else:
            left_out[item.job.key] = Outcome("busy", "another launch runs it")


def _config(item: PlannedJob) -> dict[str, Any]:
    """Tune's configuration of a job, made when Tune asks for it."""
    job = absolute_job(item.job)
    return as_config(job.key, job.model_dump_json(), item.cpu, item.gpu)


# ------------------------------------------------------------------ in a worker


@dataclass(frozen=True)
class _PerformJob:
    """Runs a job that came as text; what all jobs of the launch share travels once."""

    work: Work | None
    common: dict[str, Any]  # arguments of JobTask

    def __call__(
        self, config: Mapping[str, Any], channel: Channel, report: Report
    ) -> dict[str, Any]:
        job = Job.model_validate_json(config["task"])
        task = JobTask(
            job=job,
            cpu=config["cpu"],
            gpu=config["gpu"],
            lost=config.get("lost", ""),
            **self.common,
        )
        if not Store(task.store).is_announced(task.launch):
            reason = (
                f"{socket.gethostname()} {UNSEEN} in store {hidden(task.store)}. Give one that "
                "every node reaches, a shared disk or s3://, with --set store=..."
            )
            return {"state": "failed", "reason": reason}
        outcome = perform(task, channel, self.work)
        return {"state": outcome.state, "reason": outcome.reason}


def _performer(context: LaunchContext) -> _PerformJob:
    common = {
        "store": context.store.address,
        "launch": context.launch,
        "images": context.images,
        "fingerprints": context.fingerprints,
        "about": context.about,
        "retries": context.retries,
    }
    return _PerformJob(context.work, common)


# ------------------------------------------------------------------ beside the jobs


def _pass_notes_on(
    board: OpenBoard, context: LaunchContext, stop: StopRequest, over: threading.Event
) -> None:
    """Carry notes from the board to the launch's listeners."""
    while True:
        last = over.is_set()
        for note in board.fetch():
            with contextlib.suppress(Exception):  # a closed terminal must not end this thread
                context.on_note(note)
        if last:
            return
        over.wait(FETCH_STOPPING_S if stop.requested.is_set() else FETCH_S)


def _wait_for_other_launches(
    left: tuple[PlannedJob, ...], context: LaunchContext, stop: StopRequest
) -> None:
    """Wait until another launch releases one of these jobs, at most EXPIRY_S.

    Dead holders on other machines are detected in `claim`, not here.
    """
    end = time.monotonic() + EXPIRY_S
    while not stop.requested.wait(BUSY_S) and time.monotonic() < end:
        if any(not context.store.job_held(item.job.key) for item in left):
            return
