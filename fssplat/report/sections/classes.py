"""IoU of each novel class, the worst ones by name, and how many images they were tested on."""

from collections.abc import Iterator

from fssplat.report.blocks import Block, Row
from fssplat.report.document.content import (
    Figure,
    Heading,
    Line,
    Part,
    Points,
    Section,
    Table,
    Value,
)
from fssplat.report.evidence.gather import Evidence
from fssplat.report.figures.bars import horizontal_bars
from fssplat.report.sections.labels import row_name, short_title, trial_ids
from fssplat.report.sections.results import ranked
from fssplat.report.statistics.compared import fold_classes

WORST = 5
MOST_BARS = 40  # classes that a figure can show


def classes(evidence: Evidence) -> Section | None:
    """A table and a figure per block with a result; None if there is none."""
    parts: list[Part] = []
    for block in evidence.blocks:
        table = class_table(block, evidence)
        if table.lines:
            parts += [table, class_figure(block, table), worst(block, table)]
    return Section("classes", "Per class", tuple(parts)) if parts else None


def class_table(block: Block, evidence: Evidence) -> Table:
    """Classes down, rows with a result across; IoU in per cent, mean over training seeds."""
    rows = [row for row in block.rows if row.cells]
    lines = []
    for fold, class_id, name, images in tested(block, evidence):
        values = ranked([_value(row, fold, class_id, evidence) for row in rows])
        lines.append(Line((str(fold), name, Value(images, 0), *values)))
    names = (row_name(row, block) for row in rows)
    return Table(
        name=f"classes-{block.name}",
        caption=f"{short_title(block)}: IoU of each novel class in per cent; query images tested.",
        headings=(
            Heading("fold"),
            Heading("class", False),
            Heading("images"),
            *map(Heading, names),
        ),
        lines=tuple(lines),
    )


def tested(block: Block, evidence: Evidence) -> Iterator[tuple[int, int, str, int]]:
    """Fold, class id, class name, and number of distinct query images of each novel class."""
    for fold in block.folds:
        cells = [cell for row in block.rows for cell in row.cells if cell.trial.fold == fold]
        counts = next((one for cell in cells if (one := evidence.counts(cell.trial_id))), None)
        for class_id, name in sorted(counts.names.items()) if counts else ():
            images = set(counts.query[counts.class_id == class_id]) if counts else ()
            yield fold, class_id, name, len(images)


def class_figure(block: Block, table: Table) -> Figure:
    """The table as bars."""
    shown = table.lines[:MOST_BARS]
    names = [heading.text for heading in table.headings[3:]]
    labels = [str(line.cells[1]) for line in shown]
    series = {
        name: [_number(line.cells[3 + index]) for line in shown] for index, name in enumerate(names)
    }
    rest = len(table.lines) - len(shown)
    more = f" The first {len(shown)} of {len(table.lines)} classes." if rest else ""
    return Figure(
        name=table.name,
        caption=f"{short_title(block)}: IoU of each novel class in per cent.{more}",
        draw=lambda: horizontal_bars(labels, series, "IoU, %"),
        data=table,
    )


def worst(block: Block, table: Table) -> Points:
    """The classes with the lowest IoU, for each row."""
    items = []
    for index, heading in enumerate(table.headings[3:], start=3):
        known = [
            (number, str(line.cells[1]), line.cells[index])
            for line in table.lines
            if (number := _number(line.cells[index])) is not None
        ]
        lowest = sorted(known, key=lambda item: item[:2])[:WORST]
        listed = ", ".join(f"{name} {_shown(value)}" for _, name, value in lowest)
        items.append(f"{heading.text}: {listed}.")
    return Points(tuple(items), f"Lowest in {short_title(block)}")


def _value(row: Row, fold: int, class_id: int, evidence: Evidence) -> Value:
    found = fold_classes(row, fold, evidence).get(class_id)
    ids = tuple(cell.trial_id for cell in row.cells if cell.trial.fold == fold)
    return Value(None if found is None else 100 * found, trials=ids or trial_ids(row))


def _number(cell: str | Value) -> float | None:
    return cell.number if isinstance(cell, Value) else None


def _shown(cell: str | Value) -> str:
    return cell.shown if isinstance(cell, Value) else cell
