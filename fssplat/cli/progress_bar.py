"""The progress bar of commands that handle many images."""

from typing import Any, Self

from fssplat.common.printing import Screen


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
