"""What each method costs: parameters, time of an episode, memory, and the hours of all trials."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from fssplat.common.printing import counted
from fssplat.experiment.trial import Trial
from fssplat.report.blocks import Block, Row
from fssplat.report.document.content import (
    Figure,
    Heading,
    Line,
    Part,
    Section,
    Table,
    Text,
    Value,
    text_headings,
)
from fssplat.report.evidence.gather import Evidence
from fssplat.report.evidence.timings import Times, best_known, row_time, times_of_sources
from fssplat.report.figures.scatter import labelled_points
from fssplat.report.sections.labels import row_name, short_title, trial_ids
from fssplat.report.terminal.efficiency import BUSY
from fssplat.results.records import Result, Timing

MILLION = 1e6
COLUMNS: Sequence[tuple[str, str, float, int]] = (  # heading, metric, unit, decimals
    ("learnable, M", "learnable_parameters", MILLION, 2),
    ("used in a test, M", "test_parameters", MILLION, 2),
    ("all, M", "total_parameters", MILLION, 2),
)


def cost(evidence: Evidence) -> Section | None:
    """A table and a figure per block, and the hours of all; None without any result."""
    blocks = [block for block in evidence.blocks if any(row.cells for row in block.rows)]
    if not blocks:
        return None
    times = times_of_sources(evidence.sources)
    parts: list[Part] = [Text(hours(evidence))]
    parts += [Text(line) for line in about_times(evidence, times)]
    for block in blocks:
        figure = pareto(block, times)
        parts += [cost_table(block, times), *([figure] if figure.data.lines else [])]
    return Section("cost", "Cost", tuple(parts))


def cost_table(block: Block, times: Times) -> Table:
    """The mean over each row's finished trials; the time of an episode on each hardware."""
    rows = [row for row in block.rows if row.cells]
    columns = [column for column in COLUMNS if any(_mean(row, column[1]) for row in rows)]
    timed = {
        hardware: known
        for hardware, known in times.items()
        if any(row_time(row, known) for row in rows)
    }
    lines = []
    for row in rows:
        ids = trial_ids(row)
        counts = (_scaled(_mean(row, name), unit, digits, ids) for _, name, unit, digits in columns)
        speeds = (milliseconds(row, known) for known in timed.values())
        measured = (
            _scaled(_mean(row, "peak_memory_bytes") or None, MILLION, 0, ids),
            _scaled(_mean(row, "train_seconds"), 60, 1, ids),
        )
        device = ", ".join(
            sorted({str(cell.result.about.get("device", "?")) for cell in row.cells})
        )
        lines.append(Line((row.method, row.backbone, *counts, *speeds, *measured, device)))
    numbers = [
        *(column[0] for column in columns),
        *(f"ms an episode, {hardware}" for hardware in timed),
        *("memory, MB", "training, min"),
    ]
    episode = "; ms: median of one test episode at a time, with quartiles" if timed else ""
    return Table(
        name=f"cost-{block.name}",
        caption=f"{short_title(block)}: parameters in millions{episode}; peak memory of the "
        "trial's evaluation, minutes of one training, and its device.",
        headings=(
            *text_headings("method", "backbone"),
            *map(Heading, numbers),
            Heading("device", False),
        ),
        lines=tuple(lines),
    )


def milliseconds(row: Row, times: Mapping[str, Timing]) -> Value:
    """The median of one test episode, with its quartiles."""
    found = row_time(row, times)
    if found is None:
        return Value(None, trials=trial_ids(row))
    quartiles = found.lower_ms, found.upper_ms
    return Value(found.median_ms, 1, interval=quartiles, trials=trial_ids(row))


def pareto(block: Block, times: Times) -> Figure:
    """mIoU against the time of an episode on one hardware; rows on the front are joined."""
    hardware = best_known(block, times)
    lines = []
    for row in block.rows:
        found, mean = row_time(row, times.get(hardware, {})), row.mean(block.folds)
        if not row.unfinished and found is not None and mean is not None:
            ids = trial_ids(row)
            numbers = Value(found.median_ms, 1, trials=ids), Value(mean, trials=ids)
            lines.append(Line((row_name(row, block), *numbers)))
    headings = Heading("row", False), Heading("ms an episode"), Heading("mIoU, %")
    caption = (
        f"{short_title(block)}: mean mIoU against the median time of one test episode, one at a "
        f"time, on {hardware}. Rows that no other row beats in both are joined."
    )
    data = Table(f"pareto-{block.name}", caption, headings, tuple(lines))
    shown = [
        (str(name), time.number, mean.number)
        for name, time, mean in (line.cells for line in lines)
        if isinstance(time, Value) and isinstance(mean, Value)
    ]
    points = [(name, x, y) for name, x, y in shown if x is not None and y is not None]
    axis = f"milliseconds of one test episode on {hardware}"
    return Figure(data.name, caption, lambda: labelled_points(points, axis, "mIoU, %"), data)


def about_times(evidence: Evidence, times: Times) -> list[str]:
    """How times were measured and what makes them doubtful, or how to measure them."""
    known = {trial_id for of_hardware in times.values() for trial_id in of_hardware}
    lines = []
    for source in evidence.sources:
        left = [one for one in source.trials if one in evidence.results and one not in known]
        if left:
            lines.append(
                f"The time of an episode is not measured for {len(left)} of "
                f"{len(source.trials)} trials: `{source.command_of('time')}` measures it."
            )
    for hardware, of_hardware in times.items():
        busy = max(one.busy for one in of_hardware.values())
        if busy > BUSY:
            lines.append(
                f"{hardware}: {busy:.1f} processes per core ran before the measurement, so its "
                "times may be too long."
            )
    return lines


def hours(evidence: Evidence) -> str:
    """A sentence: device-hours spent, and those that shared trainings saved."""
    jobs: dict[str, list[tuple[Trial, Result]]] = {}
    for trial_id, result in evidence.results.items():
        key = str(result.about.get("job") or trial_id)
        jobs.setdefault(key, []).append((evidence.trials[trial_id], result))
    training = {key: _training_seconds(of_job) for key, of_job in jobs.items()}
    scoring = sum(_scoring_seconds(result) for of_job in jobs.values() for _, result in of_job)
    saved = sum(training[key] * (len(of_job) - 1) for key, of_job in jobs.items())
    trained = sum(seconds > 0 for seconds in training.values())
    return (
        f"{counted(len(evidence.results), 'finished trial')}, {counted(trained, 'training')}: "
        f"{_hours(sum(training.values()))} of training and {_hours(scoring)} of scoring on one "
        f"device. Trials that share a training saved {_hours(saved)}."
    )


def _training_seconds(of_job: Sequence[tuple[Trial, Result]]) -> float:
    return max(result.metrics.get("train_seconds", 0.0) for _, result in of_job)


def _scoring_seconds(result: Result) -> float:
    speed = result.metrics.get("episodes_per_s", 0.0)
    return result.metrics.get("episodes", 0.0) / speed if speed else 0.0


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _mean(row: Row, name: str) -> float | None:
    found = [m[name] for cell in row.cells if name in (m := cell.result.metrics)]
    return fmean(found) if found else None


def _scaled(value: float | None, unit: float, digits: int, ids: tuple[str, ...]) -> Value:
    return Value(None if value is None else value / unit, digits, trials=ids)
