"""A running job as text: phase, step, loss, speed, elapsed time, device, memory."""

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fssplat.experiment.trial import Job
from fssplat.planning.packing import PlannedJob
from fssplat.planning.plan_table import duration
from fssplat.results.notes import PHASES, JobProgress, JobStarted, JobUsage

BAR_WIDTH = 12  # columns
LOADING = "loading data and weights"
MEGABYTE = 1e6


@dataclass
class JobView:
    """What is shown of one running job."""

    planned: PlannedJob | None
    since: float  # when the launch learnt of it, in seconds of its clock
    phase: str = ""
    progress: JobProgress | None = None
    loss: float | None = None
    device: str = ""
    usage: JobUsage | None = None

    @property
    def share(self) -> float:
        """Share of the whole job that is done, also by earlier launches."""
        part = self.planned.training_share if self.planned is not None else 0.0
        if self.progress is None or self.progress.phase not in PHASES:
            return part * self.planned.done if self.planned is not None else 0.0
        if self.progress.phase == "training":
            return part * self.progress.done
        return part + (1 - part) * self.progress.done

    def start(self, note: JobStarted, now: float) -> None:
        self.since, self.phase, self.device = now, LOADING, note.device
        self.progress, self.usage = None, None

    def update(self, note: JobProgress) -> None:
        self.progress, self.phase = note, note.phase
        self.loss = note.loss if note.loss is not None else self.loss

    def facts(self, now: float) -> str:
        """Everything but the title, on one line."""
        words = [self._doing()]
        note = self.progress
        if note is not None and note.phase == "training" and self.loss is not None:
            words.append(f"loss {self.loss:.3g}")
        if note is not None and note.episodes_per_s > 0:
            words.append(f"{speed(note.episodes_per_s)} episodes/s")
        words += [duration(now - self.since), self.device, self._memory()]
        return ", ".join(filter(None, words))

    def _doing(self) -> str:
        note = self.progress
        if note is None or note.phase != self.phase or not note.steps:
            return self.phase
        unit = "step" if self.phase == "training" else f"{self.phase} episode"
        return f"{unit} {note.step} of {note.steps}"

    def _memory(self) -> str:
        values = self.usage.values if self.usage is not None else {}
        on_gpu = values.get("gpu_memory_megabytes")
        megabytes = on_gpu or values.get("process_memory_megabytes")
        return f"{megabytes * MEGABYTE / 1e9:.1f} GB" if megabytes else ""


def speed(value: float) -> str:
    """A number of episodes per second with two digits or more."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def job_rows(views: list[tuple[str, JobView]], now: float, width: int) -> RenderableType:
    """Two lines per job: a bar with the title, and the facts. Longer ones are cut at the edge."""
    rows: list[RenderableType] = []
    for title, view in views:
        first = Table.grid(padding=(0, 1))
        first.add_column(width=BAR_WIDTH)
        first.add_column(no_wrap=True, overflow="ellipsis", max_width=width - BAR_WIDTH - 1)
        first.add_row(ProgressBar(total=1.0, completed=view.share, width=BAR_WIDTH), Text(title))
        facts = f"{view.share:4.0%} {view.facts(now)}"
        rows += [first, Text(facts, no_wrap=True, overflow="ellipsis")]
    return Group(*rows)


def title_of(planned: PlannedJob | None, key: str) -> str:
    job: Job | None = planned.job if planned is not None else None
    return job.title if job is not None else key
