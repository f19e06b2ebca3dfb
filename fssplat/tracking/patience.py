"""Calls to a tracking server that may be away: nobody waits for it for long."""

import time
from collections.abc import Callable
from typing import Any

from fssplat.tracking.mlflow import Away


class Patience:
    """One call after another; the first failure is told, and each is followed by a rest."""

    def __init__(self, rest_s: float, consequence: str, warn: Callable[[str], Any]) -> None:
        """`consequence` ends the line that is told: what goes on, and who delivers."""
        self._rest_s, self._consequence, self._warn = rest_s, consequence, warn
        self._silent_until, self._warned = 0.0, False

    def tries(self, call: Callable[..., Any], *arguments: Any) -> bool:
        """Whether the call was made and the server took it."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            call(*arguments)
        except Away as error:
            if not self._warned:
                self._warned = True
                self._warn(f"MLflow is away ({error}); {self._consequence}")
            self._silent_until = time.monotonic() + self._rest_s
            return False
        return True

    def end_rest(self) -> None:
        """The next call is made, however short ago the last one failed."""
        self._silent_until = 0.0
