"""Where the IoU is lost: wrong pixels by their cause, as parts of 100 - mIoU."""

from fssplat.engine.scoring.kept.names import DETAILS, PARTS
from fssplat.report.blocks import Block
from fssplat.report.document.content import (
    Cell,
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
from fssplat.report.figures.bars import stacked_bars
from fssplat.report.sections.labels import row_name, short_title, trial_ids
from fssplat.report.statistics.lost import row_lost

NAMES = dict(zip(PARTS, ("object missed", "boundary", "base-class objects", "other"), strict=True))
HOW = (
    "Each wrong pixel counts once, in the first of four parts that fits it. Object missed: the "
    "episode's IoU is below 0.1. Boundary: at most 2 % of the image's diagonal from the edge of "
    "the true object, on either side. Base-class objects: predicted on an object of a class that "
    "the training has seen. Other: the rest. Pixels are summed per class, divided by the class's "
    "union, and averaged as mIoU is: mIoU and the four parts add up to 100."
)
NOT_RECORDED = "not recorded"


def lost(evidence: Evidence) -> Section | None:
    """A table and a figure per block with a result; None if there is none."""
    blocks = [block for block in evidence.blocks if any(row.cells for row in block.rows)]
    parts: list[Part] = [Text(HOW)]
    for block in blocks:
        table = lost_table(block, evidence)
        parts.append(table)
        if any(isinstance(line.cells[3], Value) for line in table.lines):
            parts.append(lost_figure(block, table))
    parts += [Text(hint) for hint in not_recorded(evidence)]
    return Section("lost", "Where the IoU is lost", tuple(parts)) if blocks else None


def lost_table(block: Block, evidence: Evidence) -> Table:
    """Finished rows down; mIoU and its missing parts across, in per cent."""
    lines = []
    for row in block.rows:
        if row.unfinished or not row.cells:
            continue
        found, ids = row_lost(row, block, evidence), trial_ids(row)
        numbers: list[Cell] = [NOT_RECORDED] * len(PARTS)
        mean = row.mean(block.folds)
        if found is not None:
            mean = 100 * (1 - sum(found.values()))
            numbers = [Value(100 * found[name], trials=ids) for name in PARTS]
        lines.append(Line((row.method, row.backbone, Value(mean, trials=ids), *numbers)))
    return Table(
        name=f"lost-{block.name}",
        caption=f"{short_title(block)}: mean mIoU, and where the rest of 100 is lost, in points.",
        headings=(
            *text_headings("method", "backbone"),
            *map(Heading, ("mIoU", *NAMES.values())),
        ),
        lines=tuple(lines),
    )


def lost_figure(block: Block, table: Table) -> Figure:
    """One stacked bar a row."""
    lines = [line for line in table.lines if isinstance(line.cells[3], Value)]
    rows = {(row.method, row.backbone): row_name(row, block) for row in block.rows}
    labels = [rows[str(line.cells[0]), str(line.cells[1])] for line in lines]
    series = {
        name: [_number(line.cells[column]) for line in lines]
        for column, name in enumerate(NAMES.values(), start=3)
    }
    return Figure(
        name=table.name,
        caption=f"{short_title(block)}: what mean mIoU lacks to 100, by the cause of the wrong "
        "pixels.",
        draw=lambda: stacked_bars(labels, series, "points of mIoU lost"),
        data=table,
    )


def not_recorded(evidence: Evidence) -> list[str]:
    """For each experiment with older trials: how many, and the command that adds the record."""
    hints = []
    for source in evidence.sources:
        known = [one for one in source.trials if one in evidence.results]
        old = sum(DETAILS not in evidence.results[one].files for one in known)
        if old:
            hints.append(
                f"{old} of {len(known)} trials are older than this record: it is not recorded for "
                f"them. `{source.command_of('rescore')}` scores them again without training."
            )
    return hints


def _number(cell: Cell) -> float:
    return (cell.number or 0.0) if isinstance(cell, Value) else 0.0
