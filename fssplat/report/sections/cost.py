"""What each method costs: parameters, time of an episode, memory, and the hours of all trials."""

from collections.abc import Sequence
from statistics import fmean

from fssplat.experiment.trial import Trial
from fssplat.report.blocks import Block, Row
from fssplat.report.document.content import (
    Figure,
    Heading,
    Line,
    Section,
    Table,
    Text,
    Value,
    text_headings,
)
from fssplat.report.evidence.gather import Evidence
from fssplat.report.figures.scatter import labelled_points
from fssplat.report.sections.labels import row_name, short_title, trial_ids
from fssplat.results.records import Result

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
    parts: list[Text | Table | Figure] = [Text(hours(evidence)), Text(speed_caution(evidence))]
    for block in blocks:
        figure = pareto(block)
        parts += [cost_table(block), *([figure] if figure.data.lines else [])]
    return Section("cost", "Cost", tuple(parts))


def cost_table(block: Block) -> Table:
    """The mean over each row's finished trials."""
    rows = [row for row in block.rows if row.cells]
    columns = [column for column in COLUMNS if any(_mean(row, column[1]) for row in rows)]
    lines = []
    for row in rows:
        ids = trial_ids(row)
        counts = (_scaled(_mean(row, name), unit, digits, ids) for _, name, unit, digits in columns)
        measured = (
            Value(milliseconds(row), 1, trials=ids),
            _scaled(_mean(row, "peak_memory_bytes") or None, MILLION, 0, ids),
            _scaled(_mean(row, "train_seconds"), 60, 1, ids),
        )
        device = ", ".join(
            sorted({str(cell.result.about.get("device", "?")) for cell in row.cells})
        )
        lines.append(Line((row.method, row.backbone, *counts, *measured, device)))
    numbers = [*(column[0] for column in columns), "ms an episode", "memory, MB", "training, min"]
    texts = text_headings("method", "backbone")
    return Table(
        name=f"cost-{block.name}",
        caption=f"{short_title(block)}: parameters in millions, milliseconds of one test episode, "
        "peak memory, and minutes of one training.",
        headings=(*texts, *map(Heading, numbers), Heading("device", False)),
        lines=tuple(lines),
    )


def milliseconds(row: Row) -> float | None:
    """Of one test episode, mean over the row's trials."""
    speed = _mean(row, "episodes_per_s")
    return 1000 / speed if speed else None


def pareto(block: Block) -> Figure:
    """mIoU against the time of an episode; rows on the front are joined by a line."""
    rows = [
        (row_name(row, block), milliseconds(row), row.mean(block.folds), trial_ids(row))
        for row in block.rows
        if not row.unfinished
    ]
    points = [
        (name, time, mean, ids)
        for name, time, mean, ids in rows
        if time is not None and mean is not None
    ]
    lines = tuple(
        Line((name, Value(time, 1, trials=ids), Value(mean, trials=ids)))
        for name, time, mean, ids in points
    )
    headings = Heading("row", False), Heading("ms an episode"), Heading("mIoU, %")
    caption = (
        f"{short_title(block)}: mean mIoU against the time of one test episode. Rows that no other "
        "row beats in both are joined."
    )
    data = Table(f"pareto-{block.name}", caption, headings, lines)
    shown = [(name, time, mean) for name, time, mean, _ in points]
    draw = lambda: labelled_points(shown, "milliseconds of one test episode", "mIoU, %")  # noqa: E731
    return Figure(data.name, caption, draw, data)


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
        f"{len(evidence.results)} finished trials, {trained} trainings: "
        f"{_hours(sum(training.values()))} of training and {_hours(scoring)} of scoring on one "
        f"device. Trials that share a training saved {_hours(saved)}."
    )


def speed_caution(evidence: Evidence) -> str:
    devices = sorted({str(one.about.get("device", "?")) for one in evidence.results.values()})
    return (
        f"Times were measured while the trials ran, on {', '.join(devices)}. They can be compared "
        "if jobs did not share a device (`resources: {max_concurrent: 1}`)."
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
