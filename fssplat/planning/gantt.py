"""Charts of jobs over time: those of a plan, and those that have run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fssplat.common.printing import counted
from fssplat.experiment.trial import Job, Trial
from fssplat.planning.plan import Plan
from fssplat.planning.plan_table import duration
from fssplat.results.records import Result

WIDTH, ROW, MARGIN, HIGHEST = 12.0, 0.3, 1.8, 40.0  # of the picture, inches
DPI = 120
PALE = 0.65  # opacity of bars: black labels are readable on them
LETTER = 0.068  # width of a letter of a label, inches
SECONDS_UP_TO, MINUTES_UP_TO = 180.0, 3 * 3600.0  # length of charts with these units, seconds
PAUSE = 0.1  # share of all other time; a longer time without a job is cut out of the chart


SHORT_S = 300.0  # a shorter time without a job stays


@dataclass(frozen=True)
class Bar:
    """One job on one device."""

    method: str  # gives the colour
    labels: tuple[str, ...]  # the longest first; the first that fits is shown
    device: str
    start_s: float
    seconds: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.seconds


def draw_plan(plan: Plan, path: Path) -> None:
    """Write a picture of the jobs that are left, as they are planned."""
    unit = "GPU" if any(item.gpu for item in plan.pending) else "worker"
    bars = [
        _bar(p.planned.job, f"{unit} {p.device:>2}", p.start_s, p.planned.seconds)
        for p in plan.placements
    ]
    _draw(bars, (), f"{plan.experiment.name}: planned", path)


def draw_results(plan: Plan, results: Mapping[str, Result], path: Path) -> str:
    """Write a picture of the jobs that have run, from their trials' results.

    Returns a line about jobs that are not drawn because their start was not recorded, or "".
    """
    bars, unknown = [], 0
    for job in plan.jobs:
        notes = [results[i].about for i in job.trial_ids if i in results]
        known = [note for note in notes if "started_at" in note]
        unknown += bool(notes) and not known
        for device in dict.fromkeys(_device(note) for note in known):
            here = [note for note in known if _device(note) == device]
            start = min(float(note["started_at"]) for note in here)
            end = max(float(note["finished_at"]) for note in here)
            bars.append(_bar(job, device, start, end - start))
    first = min((bar.start_s for bar in bars), default=0.0)
    bars, pauses = without_pauses([replace(bar, start_s=bar.start_s - first) for bar in bars])
    _draw(bars, pauses, f"{plan.experiment.name}: as it ran", path)
    return f"Not drawn: {counted(unknown, 'job')} without a recorded start." if unknown else ""


def without_pauses(bars: Sequence[Bar]) -> tuple[list[Bar], list[tuple[float, float]]]:
    """Move bars together over long times without any job; (place, length) of each such pause."""
    ordered = sorted(bars, key=lambda bar: bar.start_s)
    gaps, end = [], 0.0
    for bar in ordered:
        if bar.start_s > end:
            gaps.append((end, bar.start_s - end))
        end = max(end, bar.end_s)
    shown = PAUSE * (end - sum(length for _, length in gaps))
    long = [(at, length) for at, length in gaps if length > max(shown, SHORT_S)]

    def moved(second: float) -> float:
        return second - sum(length - shown / 2 for at, length in long if at < second)

    return (
        [replace(bar, start_s=moved(bar.start_s)) for bar in ordered],
        [(moved(at) + shown / 4, length) for at, length in long],
    )


def in_lanes(bars: Iterable[Bar]) -> list[tuple[str, list[Bar]]]:
    """Bars of each line of the chart: one for each device, or more if its jobs ran side by side."""
    lanes: dict[str, list[list[Bar]]] = {}
    for bar in sorted(bars, key=lambda bar: (bar.device, bar.start_s)):
        own = lanes.setdefault(bar.device, [])
        for lane in own:
            if lane[-1].end_s <= bar.start_s + 1e-6:
                lane.append(bar)
                break
        else:
            own.append([bar])
    return [(device, lane) for device, own in lanes.items() for lane in own]


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit of a chart of this length, and its seconds."""
    if seconds <= SECONDS_UP_TO:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds <= MINUTES_UP_TO else ("hours", 3600.0)


def _bar(job: Job, device: str, start_s: float, seconds: float) -> Bar:
    one: Trial = job.first
    fold, shots = f"fold {one.fold}", "+".join(dict.fromkeys(str(t.shot) for t in job.trials))
    seed = f" seed {one.training.seed}" if one.training.seed else ""
    labels = (
        f"{one.method.label} {one.backbone.name} {fold} {shots}-shot{seed}",
        f"{one.method.label} {fold} {shots}-shot{seed}",
        f"{fold} {shots}-shot",
        f"{fold}",
        f"{one.fold}",
    )
    return Bar(one.method.label, labels, device, start_s, seconds)


def _device(about: Mapping[str, Any]) -> str:
    return f"{about.get('host', '')} {about.get('device', '')}".strip()


def _draw(
    bars: Sequence[Bar], pauses: Sequence[tuple[float, float]], title: str, path: Path
) -> None:
    """A line per device, a labelled bar per job, a colour per method, the legend below."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    lanes = in_lanes(bars)
    unit, length = time_unit(max((bar.end_s for bar in bars), default=0.0))
    methods = sorted({bar.method for bar in bars})
    palette = colormaps["tab10" if len(methods) <= 10 else "tab20"]
    colours = {name: palette(index % palette.N) for index, name in enumerate(methods)}
    height = min(HIGHEST, MARGIN + ROW * max(1, len(lanes)))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    last = max((bar.end_s for bar in bars), default=1.0) / length
    for row, (_, lane) in enumerate(lanes):
        for bar in lane:
            axes.barh(
                row, bar.seconds / length, left=bar.start_s / length, color=colours[bar.method],
                alpha=PALE, edgecolor="white", linewidth=0.5,
            )  # fmt: skip
        _label(axes, row, lane, length, last)
    for place, pause in pauses:
        axes.axvline(place / length, color="black", linestyle=":")
        axes.text(place / length, -0.6, f"pause {duration(pause)}", fontsize=7, ha="center")
    axes.set(xlabel=unit, xlim=(0, last), ylim=(max(len(lanes), 1) - 0.5, -0.75))
    axes.set_title(title, loc="left")
    axes.set_yticks(range(len(lanes)), [device for device, _ in lanes], fontsize=8)
    if methods:
        handles = [Patch(color=colours[name], alpha=PALE, label=name) for name in methods]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(8, len(methods)), fontsize=8
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def _label(axes: Any, row: int, lane: Sequence[Bar], length: float, last: float) -> None:
    """Write the longest label that fits on each bar, or beside it up to the next bar."""
    inches = (WIDTH - MARGIN) / last  # of one unit of time
    ends = [*(bar.start_s / length for bar in lane[1:]), last]
    for bar, end in zip(lane, ends, strict=True):
        start, stop = bar.start_s / length, bar.end_s / length
        for place, room in ((start, stop - start), (stop, end - stop)):
            label = _fitting(bar.labels, room * inches)
            if label:
                axes.text(place, row, f" {label}", fontsize=7, va="center", clip_on=True)
                break


def _fitting(labels: Sequence[str], inches: float) -> str:
    return next((label for label in labels if LETTER * (len(label) + 1.5) <= inches), "")
