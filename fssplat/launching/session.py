"""What one launch or search is while it runs: its wish to stop, its threads, its losses.

Imports no Ray, so that the runner and the hooks that Tune calls can both stand on it.
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fssplat.experiment.grid import Job
from fssplat.results.notes import JobEnded, Note, TrialEnded
from fssplat.results.store import SETTLED, Store
from fssplat.worker.claimed_job import RETRIES, Work

LIVES = 50  # workers that one launch gives a job at most, however far each of them gets
GRACE_S = 60.0  # for running jobs to write a checkpoint once a stop is asked for
UNSEEN = "does not see this launch"  # a worker, of the store at the address it was given
JOIN_S = 30.0  # for a thread to see that it is over
HANDLED = (signal.SIGINT, signal.SIGTERM)
Hear = Callable[[Note], None]


@dataclass
class Session:
    """One launch while it runs."""

    store: Store
    launch: str
    hear: Hear
    about: Mapping[str, Any] = field(default_factory=dict)  # kept beside each result
    images: Mapping[str, int] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    max_concurrent: int | None = None
    retries: int = RETRIES
    grace_s: float = GRACE_S
    work: Work | None = None  # None: the engine


@dataclass
class Stop:
    """Whether and why the launch is to end early."""

    asked: threading.Event = field(default_factory=threading.Event)
    signal: int = 0  # 0: `fssplat stop`, or `because`
    because: str = ""  # what makes going on pointless
    since: float = 0.0
    insisted: bool = False  # a signal came after the first wish: nothing is waited for any more

    def ask(self, number: int = 0, because: str = "") -> None:
        """Stop, once running jobs have left a checkpoint. Only a signal can hurry an earlier wish:
        `fssplat stop` is read again and again, and every job may meet the same full disk."""
        self.insisted |= self.asked.is_set() and number > 0
        if not self.asked.is_set():
            self.signal, self.because, self.since = number, because, time.monotonic()
            self.asked.set()


def mark_lost(job: Job, reason: str, session: Session) -> None:
    """Write down what a worker could not: that it died once too often."""
    states = session.store.states(job.trial_ids)
    lost = [i for i in job.trial_ids if states[i].state not in (*SETTLED, "failed")]
    session.store.mark(lost, "failed", reason, job.key, session.launch)
    for trial_id in lost:
        session.hear(TrialEnded(job.key, trial_id, "failed", reason))
    session.hear(JobEnded(job.key, "failed", reason))


@contextlib.contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask for a stop; a second one does not wait for checkpoints."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: Any) -> None:
        if not stop.asked.is_set():
            print("\nStopping: running jobs write a checkpoint first.", file=sys.stderr)
        stop.ask(number)

    before = {number: signal.signal(number, handle) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def meanwhile(run: Callable[[threading.Event], None]) -> Iterator[None]:
    """A thread that runs beside the body; the event tells it that the body has ended."""
    over = threading.Event()
    thread = threading.Thread(target=run, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=JOIN_S)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Tune's own lines would tear the display; what matters is in the store."""
    import logging

    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.data")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
