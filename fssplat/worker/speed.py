"""The speed of counted work, over the last seconds."""

import time
from collections.abc import Callable

WINDOW_S = 5.0  # at least this long, if there is so much


class Speed:
    """Counts per second, from reports that may come in bursts, such as fifty steps at once."""

    def __init__(self, count: float = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = self._last = (clock(), count)

    def per_s(self, count: float) -> float:
        """The speed after `count`; 0 if it cannot be measured yet."""
        now = self._clock()
        if now > self._last[0] and self._last[0] - self._since[0] >= WINDOW_S:
            self._since = self._last  # the last report of a burst that is over
        self._last = (now, count)
        seconds = now - self._since[0]
        return (count - self._since[1]) / seconds if seconds > 0.1 else 0.0
