"""A request to end a launch or a search early: by signal, by `fssplat stop`, or for a reason."""

import contextlib
import errno
import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fssplat.common.printing import say

GRACE_S = 60.0  # for running jobs to write a checkpoint after a stop request
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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

    SIGHUP, of a terminal that closes, counts as SIGTERM, unless the launch ignores it (`nohup`).
    Does nothing outside the main thread, where Python takes no signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            _write_nowhere_without_terminal()
            number = signal.SIGTERM
        if not stop.requested.is_set():
            with contextlib.suppress(OSError):
                say("\nStopping: running jobs write a checkpoint first.", file=sys.stderr)
        stop.request(number)

    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    handled = [number for number in HANDLED if number != signal.SIGHUP or not ignored]
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_nowhere_without_terminal() -> None:
    """Send output that went to a closed terminal to /dev/null; each write would fail otherwise."""
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except (termios.error, OSError) as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
