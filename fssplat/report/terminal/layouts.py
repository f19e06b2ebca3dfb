"""Tables of one block of results in the widest layout that fits the screen: nothing is cut.

The layouts from wide to narrow: one table; a table per backbone; the same with the intervals below
the tables; a table per row, with folds down.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fssplat.report.blocks import ANCHOR, Block, Row
from fssplat.report.statistics.draws import Difference

Intervals = Mapping[tuple[str, str], Difference]  # (method, backbone) -> difference to the anchor
AGAINST = f"vs {ANCHOR}, 95 %"


@dataclass(frozen=True)
class FittedBlock:
    """A block of results in the widest layout that fits the screen."""

    block: Block
    intervals: Intervals

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | Group]:
        yield Text(self.block.title)
        for layout in (single_table, tables_by_backbone, intervals_below):
            parts = layout(self.block, self.intervals)
            if all(_width(part, console, options) <= options.max_width for part in parts):
                break
        else:
            parts = tables_by_row(self.block, self.intervals)
        yield Group(*parts)


def single_table(block: Block, intervals: Intervals) -> list[RenderableType]:
    """Methods and backbones down, folds and all figures across."""
    table = _empty_table(["method", "backbone"], _figures(block, intervals))
    for row in block.rows:
        table.add_row(row.label, row.backbone, *_cells(row, block, intervals))
    return [table]


def tables_by_backbone(block: Block, intervals: Intervals) -> list[RenderableType]:
    """A table per backbone, with the backbone as its heading."""
    parts: list[RenderableType] = []
    for backbone, rows in _backbones(block):
        table = _empty_table(["method"], _figures(block, intervals))
        for row in rows:
            table.add_row(row.label, *_cells(row, block, intervals))
        parts += [Text(f"\n{backbone}"), table]
    return parts


def intervals_below(block: Block, intervals: Intervals) -> list[RenderableType]:
    """As `tables_by_backbone`, with a line per interval below."""
    parts = tables_by_backbone(block, {})
    lines = [
        f"{method}, {backbone}: {_interval_text(found)} {AGAINST}"
        for (method, backbone), found in intervals.items()
    ]
    return [*parts, *(Text(line) for line in lines)]


def tables_by_row(block: Block, intervals: Intervals) -> list[RenderableType]:
    """A table per method and backbone: folds down, the figures of a fold across."""
    parts: list[RenderableType] = []
    for row in block.rows:
        table = _empty_table(["fold"], ["mIoU", "FB-IoU"])
        for fold in block.folds:
            table.add_row(str(fold), percent(row.fold(fold)), percent(row.fold(fold, "fb_iou")))
        means = [percent(row.mean(block.folds, name)) for name in ("miou", "fb_iou")]
        table.add_row("mean", *means)
        parts += [Text(f"\n{row.label}\n{row.backbone}"), table]
        spread = row.spread(block.folds)
        if spread is not None:
            parts.append(Text(f"± {percent(spread)} std"))
        found = intervals.get((row.method, row.backbone))
        if found is not None:
            parts.append(Text(f"{_interval_text(found)} {AGAINST}"))
    return parts


# ------------------------------------------------------------------ columns and cells


def _empty_table(names: list[str], figures: list[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table


def _figures(block: Block, intervals: Intervals) -> list[str]:
    """The headings that `_cells` fills."""
    spread = ["± std"] if _spreads(block) else []
    against = [AGAINST] if intervals else []
    return [*(f"fold-{fold}" for fold in block.folds), "mean", *spread, "FB-IoU", *against]


def _cells(row: Row, block: Block, intervals: Intervals) -> list[str]:
    cells = [percent(row.fold(fold)) for fold in block.folds]
    cells.append(percent(row.mean(block.folds)))
    if _spreads(block):
        cells.append(percent(row.spread(block.folds)))
    cells.append(percent(row.mean(block.folds, "fb_iou")))
    if intervals:
        cells.append(_interval_text(intervals.get((row.method, row.backbone))))
    return cells


def _spreads(block: Block) -> bool:
    return any(row.spread(block.folds) is not None for row in block.rows)


def _backbones(block: Block) -> Iterator[tuple[str, list[Row]]]:
    """Rows by backbone, both in the order of the grid."""
    order = list(dict.fromkeys(row.backbone for row in block.rows))
    name: Callable[[Row], str] = lambda row: row.backbone  # noqa: E731
    for backbone, rows in groupby(sorted(block.rows, key=lambda r: order.index(r.backbone)), name):
        yield backbone, list(rows)


def _width(part: RenderableType, console: Console, options: ConsoleOptions) -> int:
    """The characters that a table needs; 0 for text, which wraps between words."""
    if not isinstance(part, Table):
        return 0
    unbounded = options.update(width=10_000)
    return Measurement.get(console, unbounded, part).maximum


def percent(value: float | None) -> str:
    """The number with one decimal, or a dash if there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def _interval_text(interval: Difference | None) -> str:
    if interval is None:
        return "-"
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.difference:+.1f} [{low:+.1f}, {high:+.1f}]"
