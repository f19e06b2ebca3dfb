"""The live display of a launch: counts of jobs, the remaining time, the best mIoU."""

import time
from collections.abc import Callable, Mapping
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fssplat.common.printing import Screen
from fssplat.experiment.trial import Trial
from fssplat.planning.packing import PlannedJob
from fssplat.planning.plan_table import duration
from fssplat.results.notes import JobEnded, JobProgress, JobStarted, Note, TrialDone, TrialEnded

SHOWN = 12  # running jobs that are listed
TRAINING_SHARE = 0.7  # of the time of a job that trains; for the bar only


class Progress:
    """Shows the notes of a launch on one screen, or without a terminal as one line per trial."""

    def __init__(
        self,
        pending: tuple[PlannedJob, ...],
        trials: Mapping[str, Trial],
        devices: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = {item.job.key: item for item in pending}
        self._trials, self._devices = trials, devices
        self._console, self._clock = console or Screen(), clock
        self._started = clock()
        self._running: dict[str, float] = {}  # job -> share done
        self._phase: dict[str, str] = {}
        self.ended: dict[str, str] = {}  # job -> state
        self._best: tuple[float, str] | None = None
        self._live = Live(
            console=self._console, refresh_per_second=2, transient=True, get_renderable=self.screen
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def on_note(self, note: Note) -> None:
        """Update the display; an ended trial also prints a line above it."""
        if isinstance(note, JobStarted):
            self._running[note.key] = 0.0
        elif isinstance(note, JobProgress):
            self._running[note.key] = self._share(note)
            self._phase[note.key] = note.phase
        elif isinstance(note, TrialDone):
            self._trial(note)
        elif isinstance(note, TrialEnded):
            self.say(f"{self._title(note.trial_id)}: {note.state}, {note.reason}")
        elif isinstance(note, JobEnded):
            self._running.pop(note.key, None)
            self.ended[note.key] = note.state

    def say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def eta_s(self) -> float | None:
        """Estimated remaining seconds, from the work done so far; None before any is done."""
        total = sum(item.seconds for item in self._jobs.values())
        done = sum(item.seconds for key, item in self._jobs.items() if key in self.ended)
        done += sum(self._jobs[key].seconds * share for key, share in self._running.items())
        elapsed = self._clock() - self._started
        return elapsed * (total - done) / done if done > 0 and elapsed > 0 else None

    def line(self) -> str:
        """The counts, the remaining time and the best mIoU in one line."""
        failed = sum(state in ("failed", "diverged") for state in self.ended.values())
        left = len(self._jobs) - len(self.ended) - len(self._running)
        parts = [
            f"{len(self.ended) - failed} of {len(self._jobs)} jobs done",
            f"{len(self._running)} running",
            f"{max(0, left)} waiting",
            f"{failed} failed",
        ]
        eta = self.eta_s()
        if eta is not None:
            parts.append(f"{duration(eta)} left")
        if self._best is not None:
            parts.append(f"best mIoU {100 * self._best[0]:.1f} ({self._best[1]})")
        return ", ".join(parts)

    def screen(self) -> RenderableType:
        rows = Table.grid(padding=(0, 2))
        for key, share in sorted(self._running.items(), key=lambda item: -item[1])[:SHOWN]:
            title = self._jobs[key].job.title if key in self._jobs else key
            bar = ProgressBar(total=1.0, completed=share, width=30)
            rows.add_row(bar, self._phase.get(key, "starting"), title)
        return Group(rows, Text(self.line()))

    def _trial(self, note: TrialDone) -> None:
        miou = note.metrics.get("miou", float("nan"))
        title = self._title(note.trial_id)
        if miou == miou and (self._best is None or miou > self._best[0]):
            self._best = (miou, title)
        left = "".join(f"; {text}" for text in note.notes)
        self.say(f"{title}: mIoU {100 * miou:.1f}{left}")

    def _share(self, note: JobProgress) -> float:
        item = self._jobs.get(note.key)
        trains = item is not None and item.job.trains
        part = TRAINING_SHARE if trains else 0.0
        return part * note.done if note.phase == "training" else part + (1 - part) * note.done

    def _title(self, trial_id: str) -> str:
        trial = self._trials.get(trial_id)
        return trial.title if trial is not None else trial_id
