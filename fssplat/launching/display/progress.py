"""The live display of a launch: its jobs, the remaining time, the best mIoU."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fssplat.common.printing import Screen, counted
from fssplat.experiment.trial import Trial
from fssplat.launching.display.job_view import JobView, job_rows, title_of
from fssplat.launching.display.time_left import TimeLeft
from fssplat.planning.packing import PlannedJob
from fssplat.planning.plan_table import duration
from fssplat.results.notes import (
    PHASES,
    JobEnded,
    JobProgress,
    JobStarted,
    Note,
    TrialDone,
    TrialEnded,
)

SHOWN = 12  # running jobs that are listed
LINE_S = 60.0  # seconds between two reports without a terminal
NOT_SHOWN = 4  # lines of a terminal that are left for other text
BAD = ("failed", "diverged")
WORKERS = "starting: Ray starts workers, which load PyTorch"


class Progress:
    """Shows the notes of a launch on one screen.

    Without a terminal, each trial prints a line, and a report is printed every minute.
    """

    def __init__(
        self,
        pending: tuple[PlannedJob, ...],
        trials: Mapping[str, Trial],
        devices: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        logs_command: str = "",
    ) -> None:
        """`logs_command` with a trial's id shows what its job printed."""
        self._jobs = {item.job.key: item for item in pending}
        self._trials, self._logs_command = trials, logs_command
        self._console, self._clock = console or Screen(), clock
        self._started = clock()
        self._running: dict[str, JobView] = {}
        self._elsewhere: set[str] = set()  # jobs that another launch runs
        self._reported = clock()
        self._left = TimeLeft(pending, devices, clock)
        self._why_longer = ""
        self.ended: dict[str, str] = {}  # job -> state
        self._best: tuple[float, str] | None = None
        self._lock = threading.RLock()  # notes, reports and the screen come from several threads
        self._over = threading.Event()
        self._live = Live(
            console=self._console, refresh_per_second=2, transient=True, get_renderable=self.screen
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            threading.Thread(target=self._report_at_intervals, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._console.is_terminal:
            self._live.stop()

    def on_note(self, note: Note) -> None:
        """Update the display; an ended trial also prints a line above it."""
        with self._lock:
            lines = self._update(note)
        for line in lines:  # after the lock is free: the display takes its own lock before ours
            self.say(line)

    def _update(self, note: Note) -> list[str]:
        """Take a note; returns the lines to print."""
        if isinstance(note, TrialDone):
            return [self._trial(note)]
        if isinstance(note, TrialEnded):
            return self._trial_ended(note)
        if isinstance(note, JobEnded):
            self._job_ended(note)
        elif isinstance(note, JobStarted):
            self._view(note.key).start(note, self._clock())
            self._left.start(note.key)
        elif isinstance(note, JobProgress):
            self._job_progress(note)
        elif note.key in self._running:
            self._running[note.key].usage = note
        return []

    def say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def eta_s(self) -> float | None:
        """Remaining seconds to show; None before anything is known."""
        with self._lock:
            seconds, reason = self._left.shown()
            self._why_longer = reason or self._why_longer
            return seconds

    def line(self) -> str:
        """The counts, the remaining time and the best mIoU in one line."""
        with self._lock:
            states = list(self.ended.values())
            bad = sum(state in BAD for state in states)
            stopped = states.count("interrupted")
            waiting = len(self._jobs) - len(states) - len(self._running)
            parts = [
                f"{len(states) - bad - stopped} of {counted(len(self._jobs), 'job')} done",
                f"{len(self._running)} running",
                f"{max(0, waiting)} waiting",
                f"{bad} failed",
                *([f"{stopped} stopped"] if stopped else []),
                f"{duration(self._clock() - self._started)} elapsed",
            ]
            eta = self.eta_s()
            if eta is not None and len(states) < len(self._jobs):
                parts.append(f"{duration(eta)} left{self._because()}")
            if self._best is not None:
                parts.append(f"best mIoU {100 * self._best[0]:.1f} ({self._best[1]})")
            return ", ".join(parts)

    def screen(self) -> RenderableType:
        with self._lock:
            most = min(SHOWN, max(1, (self._console.height - NOT_SHOWN) // 2))
            listed = self._listed()
            rows: list[RenderableType] = []
            if listed:
                rows.append(job_rows(listed[:most], self._clock(), self._console.width))
            if len(listed) > most:
                rows.append(Text(f"... and {len(listed) - most} more jobs that run"))
            return Group(*rows, *(Text(line) for line in self._starting()), Text(self.line()))

    def report(self) -> str:
        """The same facts as plain lines: the counts, then one line for each running job."""
        with self._lock:
            listed, now = self._listed(), self._clock()
            lines = [self.line(), *self._starting()]
            lines += [f"  {title}: {view.facts(now)}" for title, view in listed[:SHOWN]]
            if len(listed) > SHOWN:
                lines.append(f"  ... and {len(listed) - SHOWN} more jobs that run")
            return "\n".join(lines)

    def report_if_due(self) -> None:
        """Print the report if the last one is a minute old."""
        if self._clock() - self._reported >= LINE_S:
            self._reported = self._clock()
            self.say(self.report())

    # -------------------------------------------------------------- notes

    def _view(self, key: str) -> JobView:
        if key not in self._running:
            self.ended.pop(key, None)
            self._elsewhere.discard(key)
            self._running[key] = JobView(self._jobs.get(key), self._clock())
        return self._running[key]

    def _job_progress(self, note: JobProgress) -> None:
        view = self._view(note.key)
        known = view.progress is not None and view.progress.phase == note.phase
        view.update(note)
        if note.phase in PHASES:
            take = self._left.report if known else self._left.begin
            take(note.key, note.phase, self._share_of_plan(view, note))

    def _share_of_plan(self, view: JobView, note: JobProgress) -> float:
        """The share that is done of what the plan has of this phase."""
        done = view.planned.done if view.planned is not None and note.phase == "training" else 0.0
        return max(0.0, (note.done - done) / (1 - done)) if done < 1 else 1.0

    def _job_ended(self, note: JobEnded) -> None:
        self._running.pop(note.key, None)
        if note.state == "busy":
            self._elsewhere.add(note.key)
            return
        self._elsewhere.discard(note.key)
        self.ended[note.key] = note.state
        self._left.end(note.key, note.state == "finished")

    def _trial(self, note: TrialDone) -> str:
        miou = note.metrics.get("miou", float("nan"))
        title = self._title(note.trial_id)
        if miou == miou and (self._best is None or miou > self._best[0]):
            self._best = (miou, title)
        more = "".join(f"; {text}" for text in note.notes)
        return f"{title}: mIoU {100 * miou:.1f}{more}"

    def _trial_ended(self, note: TrialEnded) -> list[str]:
        lines = [f"{self._title(note.trial_id)}: {note.state}, {note.reason}"]
        if note.state in BAD and self._logs_command:
            lines.append(f"    What it printed: {self._logs_command} {note.trial_id}")
        return lines

    # -------------------------------------------------------------- text

    def _listed(self) -> list[tuple[str, JobView]]:
        """Titles and views of the running jobs; those that are almost done come first."""
        views = sorted(self._running.items(), key=lambda item: -item[1].share)
        return [(title_of(self._jobs.get(key), key), view) for key, view in views]

    def _starting(self) -> list[str]:
        """What the launch waits for while no job runs."""
        if self._running or len(self.ended) == len(self._jobs):
            return []
        if self._elsewhere:
            return [f"waiting for {counted(len(self._elsewhere), 'job')} of another launch"]
        if self.ended:
            return ["waiting for a worker"]
        return [f"{WORKERS} ({duration(self._clock() - self._started)})"]

    def _because(self) -> str:
        return f" ({self._why_longer})" if self._why_longer else ""

    def _title(self, trial_id: str) -> str:
        trial = self._trials.get(trial_id)
        return trial.title if trial is not None else trial_id

    def _report_at_intervals(self) -> None:
        while not self._over.wait(1.0):
            with suppress(Exception):  # a closed file must not end the reports
                self.report_if_due()
