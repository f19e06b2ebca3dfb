"""A request to end a launch or a search early: by signal, by `fssplat stop`, or for a reason."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fssplat.common.printing import say

GRACE_S = 60.0  # for running jobs to write a checkpoint after a stop request
HANDLED = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopRequest:
    """Whether and why the run is to end early."""

    requested: threading.Event = field(default_factory=threading.Event)
    signal: int = 0  # 0: `fssplat stop`, or `reason`
    reason: str = ""  # why the next job would fail as well, e.g. a full disk
    since: float = 0.0  # time.monotonic() of the first request
    immediate: bool = False  # a signal followed the first request: do not wait for checkpoints

    def request(self, number: int = 0, reason: str = "") -> None:
        """Ask the run to stop after its running jobs have written a checkpoint.

        After the first request only a signal shortens the wait: the stop file and a full disk
        report repeatedly.
        """
        self.immediate |= self.requested.is_set() and number > 0
        if not self.requested.is_set():
            self.signal, self.reason, self.since = number, reason, time.monotonic()
            self.requested.set()

    def grace_is_over(self, grace_s: float) -> bool:
        """Whether running jobs have had `grace_s` seconds, or must not be waited for."""
        return self.immediate or time.monotonic() - self.since > grace_s


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """Ctrl-C and SIGTERM request a stop; a second one does not wait for checkpoints.

    Does nothing outside the main thread, where Python takes no signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: Any) -> None:
        if not stop.requested.is_set():
            say("\nStopping: running jobs write a checkpoint first.", file=sys.stderr)
        stop.request(number)

    before = {number: signal.signal(number, handle) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
