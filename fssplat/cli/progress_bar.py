"""The progress of long commands on standard error: a bar, or the step that runs now."""

import time
from typing import Any, Self

from fssplat.common.printing import Screen, whole_line


class Bar:
    """A bar on standard error; call it with (done, total). `speed` also shows units per second."""

    def __init__(self, title: str, unit: str = "images", speed: bool = False) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        rate = [TextColumn("{task.fields[rate]}")] if speed else []
        self._unit = unit
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            *rate,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Screen(stderr=True),
        )
        self._task = self._progress.add_task(title, total=None, rate="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        speed: Any = self._progress.tasks[0].speed
        rate = f"{speed:.1f} {self._unit}/s" if speed else ""
        self._progress.update(self._task, completed=done, total=total, rate=rate)


class Steps:
    """Shows the step that runs now; call it with the step.

    A terminal has one line that changes. Elsewhere a line is printed if the last one is older
    than EVERY_S seconds, so that a short command prints none.
    """

    EVERY_S = 5.0

    def __init__(self) -> None:
        self._screen = Screen(stderr=True)
        self._status = self._screen.status("") if self._screen.is_terminal else None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, step: str) -> None:
        if self._status is not None:
            self._status.update(whole_line(f"{step} ..."))
        elif time.monotonic() - self._last >= self.EVERY_S:
            self._last = time.monotonic()
            self._screen.print(f"{step} ...")
