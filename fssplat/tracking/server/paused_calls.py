"""Calls to a tracking server that may not answer: after a failure they pause, so nothing waits."""

import time
from collections.abc import Callable
from typing import Any

from fssplat.tracking.server.connection import MlflowError


class PausedCalls:
    """Makes calls one after the other. Warns of the first failure; every failure starts a pause."""

    def __init__(self, pause_s: float, consequence: str, warn: Callable[[str], Any]) -> None:
        """`consequence` ends the warning: what continues, and what delivers the missing data."""
        self._pause_s, self._consequence, self._warn = pause_s, consequence, warn
        self._paused_until, self._warned = 0.0, False

    def succeeds(self, call: Callable[..., Any], *arguments: Any) -> bool:
        """Whether the call was made, which a pause prevents, and did not fail."""
        if time.monotonic() < self._paused_until:
            return False
        try:
            call(*arguments)
        except MlflowError as error:
            if not self._warned:
                self._warned = True
                self._warn(f"{error.shown}; {self._consequence}")
            self._paused_until = time.monotonic() + self._pause_s
            return False
        return True

    def end_pause(self) -> None:
        """Make the next call at once, even if the last one has just failed."""
        self._paused_until = 0.0
