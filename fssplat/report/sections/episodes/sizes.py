"""IoU by the size of objects, over other supports of the same query, and against the shots."""

from collections.abc import Sequence

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
from fssplat.report.figures.lines import lines, ranges
from fssplat.report.sections.episodes.lost import not_recorded
from fssplat.report.sections.labels import row_name, short_title, trial_ids
from fssplat.report.sections.results import ranked
from fssplat.report.statistics.sizes import (
    QUERY_PIXELS,
    QUERY_SHARE,
    SUPPORT_SHARE,
    Bins,
    episodes_by_size,
    row_by_size,
    row_sensitivity,
)

HOW = (
    "Sizes are those of the labelled object in the original image, that of the supports as the "
    "mean over the shots. In each bin, mIoU is computed over its episodes alone: pixels summed per "
    "class, then the mean over the classes, episode seeds, training seeds and folds that have an "
    "episode there."
)
KINDS = (  # name of the files, bins, caption, x axis
    ("query-share", QUERY_SHARE, "the object's share of the query image", "share of the query"),
    ("query-pixels", QUERY_PIXELS, "the object's pixels in the query, below 5,000", "pixels"),
    ("support-share", SUPPORT_SHARE, "the object's share of the supports", "share of the support"),
)


def sizes(evidence: Evidence) -> Section | None:
    """Tables and figures per block with a result; None if there is none."""
    parts: list[Part] = []
    for block in evidence.blocks:
        for name, bins, what, axis in KINDS:
            table = size_table(block, f"{name}-{block.name}", bins, what, evidence)
            if table.lines:
                parts += [table, size_figure(table, axis)]
        table = support_table(block, evidence)
        if table.lines:
            parts += [table, support_figure(block, table)]
    for title, same in other_shots(evidence.blocks).items():
        table = shot_table(title, same)
        parts += [table, size_figure(table, "shots", "mean mIoU, %")] if table.lines else []
    if not parts:
        return None
    hints = [Text(f"Sizes of supports: {hint}") for hint in not_recorded(evidence)]
    title = "By object size, supports and shots"
    return Section("sizes", title, (Text(HOW), *parts, *hints))


def size_table(block: Block, name: str, bins: Bins, what: str, evidence: Evidence) -> Table:
    """Bins with an episode down, rows that record the size across; mIoU in per cent."""
    found = {
        row_name(row, block): (values, row)
        for row in block.rows
        if row.cells and (values := row_by_size(row, bins, block, evidence)) is not None
    }
    first = next((row for _, row in found.values()), None)
    counts = episodes_by_size(first, bins, evidence) if first else [0] * len(bins.names)
    shown = []
    for number, bin_name in enumerate(bins.names):
        cells = [_percent(values[number], row) for values, row in found.values()]
        if counts[number]:
            shown.append(Line((bin_name, Value(counts[number], 0), *ranked(cells))))
    return Table(
        name=name,
        caption=f"{short_title(block)}: mIoU in per cent by {what}, and the episodes of each size.",
        headings=(Heading("size", False), Heading("episodes"), *map(Heading, found)),
        lines=tuple(shown),
        sortable=False,
    )


def size_figure(table: Table, x_axis: str, y_axis: str = "mIoU, %") -> Figure:
    """The numbers of a table as one line per column; its first two columns name the places."""
    series = {
        heading.text: [_number(line.cells[column]) for line in table.lines]
        for column, heading in enumerate(table.headings)
        if column > 1
    }
    places = [str(line.cells[0]) for line in table.lines]
    return Figure(
        name=table.name,
        caption=table.caption,
        draw=lambda: lines(places, series, x_axis, y_axis),
        data=table,
    )


def support_table(block: Block, evidence: Evidence) -> Table:
    """Rows down; the IoU of queries that occur with several supports across, in per cent."""
    shown = []
    for row in block.rows:
        found = row_sensitivity(row, evidence) if not row.unfinished else None
        if found is not None:
            ids = trial_ids(row)
            numbers = (found.worst, found.mean, found.best, found.deviation)
            shown.append(
                Line(
                    (
                        row.method,
                        row.backbone,
                        Value(found.queries, 0, trials=ids),
                        *(Value(100 * number, trials=ids) for number in numbers),
                    )
                )
            )
    names = ("queries", "worst supports", "mean", "best supports", "deviation")
    return Table(
        name=f"supports-{block.name}",
        caption=f"{short_title(block)}: IoU of an episode in per cent over other supports of the "
        "same query, mean over the queries that occur with several; deviation: standard deviation "
        "over the supports.",
        headings=(*text_headings("method", "backbone"), *map(Heading, names)),
        lines=tuple(shown),
    )


def support_figure(block: Block, table: Table) -> Figure:
    rows = {(row.method, row.backbone): row_name(row, block) for row in block.rows}
    labels = [rows[str(line.cells[0]), str(line.cells[1])] for line in table.lines]
    ends = [
        (_number(one.cells[3]) or 0.0, _number(one.cells[4]) or 0.0, _number(one.cells[5]) or 0.0)
        for one in table.lines
    ]
    return Figure(
        name=table.name,
        caption=f"{short_title(block)}: from the worst to the best supports of the same query.",
        draw=lambda: ranges(labels, ends, "IoU of an episode, %"),
        data=table,
    )


def other_shots(blocks: Sequence[Block]) -> dict[str, list[Block]]:
    """The blocks that differ in their shots alone, if there are at least two, by their title."""
    found: dict[str, list[Block]] = {}
    for block in blocks:
        cell = next((cell for row in block.rows for cell in row.cells), None)
        if cell is not None:
            shots = f"{cell.trial.shot}-shot"
            found.setdefault(block.title.replace(shots, "n-shot", 1), []).append(block)
    return {title: same for title, same in found.items() if len(same) > 1}


def shot_table(title: str, blocks: Sequence[Block]) -> Table:
    """Shots down, rows across: mean mIoU in per cent; no number for a row that is not finished."""
    names = list(dict.fromkeys(row_name(row, block) for block in blocks for row in block.rows))
    shots = {_shot(block): block for block in blocks}
    shown = []
    for shot, block in sorted(shots.items()):
        rows = {row_name(row, block): row for row in block.rows}
        values = ranked([_mean(rows.get(name), block) for name in names])
        folds = Value(len(block.folds), 0)
        shown.append(Line((str(shot), folds, *values)))
    return Table(
        name=f"shots-{blocks[0].name}",
        caption=f"{title.partition(', mIoU under')[0]}: mean mIoU in per cent against the shots.",
        headings=(Heading("shots"), Heading("folds"), *map(Heading, names)),
        lines=tuple(shown),
        sortable=False,
    )


def _shot(block: Block) -> int:
    return next(cell.trial.shot for row in block.rows for cell in row.cells)


def _mean(row: Row | None, block: Block) -> Value:
    if row is None or row.unfinished:
        return Value(None, trials=trial_ids(row) if row else ())
    return Value(row.mean(block.folds), trials=trial_ids(row))


def _percent(value: float | None, row: Row) -> Value:
    return Value(None if value is None else 100 * value, trials=trial_ids(row))


def _number(cell: str | Value) -> float | None:
    return cell.number if isinstance(cell, Value) else None
