"""Whole published tables in the papers' layout, with our results between the printed lines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fssplat.report import published
from fssplat.report.blocks import blocks
from fssplat.report.published import PublishedRow
from fssplat.report.published_tables import (
    COUNTED_APART,
    PARAMETERS,
    Line,
    Ours,
    Values,
    difference,
    folds_of,
    lines,
    printed_values,
)
from fssplat.report.terminal.comparison import CHANGED, signed_percent

MAIN = ("mIoU", "mIoU_gain", "class_IoU")  # a line has one of them for each fold
KINDS = "printed\nours\ndifference"


def published_tables(
    rows: Sequence[PublishedRow], ours: Ours, left_out: dict[str, str], changed: bool
) -> RenderableType:
    """The lines of the rows' tables of which at least one figure can be run, then remarks.

    `left_out`: name of a row that is not run -> why. `changed`: ours ran with other settings.
    """
    shown = [line for line in lines(rows) if any(row.name not in left_out for row in line.rows)]
    parts: list[RenderableType] = []
    for title, of_table in groupby(shown, lambda one: f"{one.paper}, {one.table}, {one.dataset}"):
        parts += [Text(title), FittedLines(tuple(of_table), ours), Text("")]
    parts += [Text(text) for text in remarks(rows, shown, ours, left_out, changed)]
    return Group(*parts)


@dataclass(frozen=True)
class FittedLines:
    """Lines of one table: all numbers of shots side by side if they fit, else below each other."""

    lines: tuple[Line, ...]
    ours: Ours

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        shots = sorted({row.shot for line in self.lines for row in line.rows if row.shot})
        whole = self._table(shots, parameters=True)
        unbounded = options.update(width=10_000)
        if Measurement.get(console, unbounded, whole).maximum <= options.max_width:
            yield whole
            return
        for shot in shots:
            yield self._table([shot], parameters=False)
        if any(self._counted(line) for line in self.lines):
            yield self._table([], parameters=True)

    def _table(self, shots: Sequence[int], parameters: bool) -> Table:
        """A row for each line that has figures of these shots; three lines of text in each cell."""
        counted = [self._counted(line) for line in self.lines]
        with_counts = parameters and any(counted)
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", overflow="fold", min_width=14, max_width=24)
        table.add_column("", no_wrap=True)
        folds = folds_of(self.lines[0].rows[0])
        for shot in shots:
            for place, name in enumerate([*(f"fold-{fold}" for fold in folds), "mean"]):
                heading = f"{'' if place else f'{shot}-shot'}\n{name}"
                table.add_column(heading, justify="right", no_wrap=True)
            if self._fb_iou(shot):
                table.add_column("\nFB-IoU", justify="right", no_wrap=True)
        if with_counts:
            table.add_column("\nparameters, M", justify="right", no_wrap=True)
        backbone = ""
        for line, count in zip(self.lines, counted, strict=True):
            cells = [cell for shot in shots for cell in self._cells(line, shot, len(folds))]
            if set(cells) == {""} and not (with_counts and count):
                continue
            if line.backbone != backbone:
                backbone = line.backbone
                table.add_row(f"{backbone}:")
            table.add_row(line.label, KINDS, *cells, *([count] if with_counts else []))
        return table

    def _cells(self, line: Line, shot: int, folds: int) -> list[str]:
        """The figures of a number of shots; empty where the table prints none."""
        row = line.figure(shot, MAIN)
        cells = _triples(printed_values(row), self.ours.values(row)) if row else [""] * (folds + 1)
        if self._fb_iou(shot):
            row = line.figure(shot, ["FB-IoU"])
            cells += _triples([row.mean], self.ours.values(row)[-1:]) if row else [""]
        return cells

    def _fb_iou(self, shot: int) -> bool:
        return any(line.figure(shot, ["FB-IoU"]) for line in self.lines)

    def _counted(self, line: Line) -> str:
        """Printed and our parameters in millions; empty if the table prints none."""
        row = next((row for row in line.rows if (row.paper, row.metric) in PARAMETERS), None)
        return _triples([row.mean], [self.ours.parameters(line, row)])[0] if row else ""


def _triples(theirs: Values, ours: Values) -> list[str]:
    """For each figure the printed one, ours and the difference, below each other."""
    return [
        "\n".join(
            [signed_percent(one), signed_percent(own), signed_percent(difference(own, one), "+")]
        )
        for one, own in zip(theirs, ours, strict=True)
    ]


def remarks(
    rows: Sequence[PublishedRow],
    shown: Sequence[Line],
    ours: Ours,
    left_out: dict[str, str],
    changed: bool,
) -> list[str]:
    """What a reader of the tables must know, and the rows that are not run, by their reason."""
    figures = [row for line in shown for row in line.rows]
    found = []
    if any(row.doubtful for row in figures):
        found.append("(doubtful): the text of the paper could not be read with certainty.")
    if any(row.quoted for row in figures):
        found.append("(quoted): of another work, whose protocol the paper does not say.")
    if changed:
        found.append(CHANGED)
    papers = dict.fromkeys(row.paper for row in figures if row.metric in COUNTED)
    found += [f"Parameters: {COUNTED_APART[one]}." for one in papers if one in COUNTED_APART]
    own = dict.fromkeys(filter(None, map(published.own_settings, figures)))
    found += [f"Ours: {one}." for one in own]
    found += [f"Ours: {block.title}." for block in blocks(ours.trials, ours.results)]
    names = {row.name for line in shown for row in line.rows if row.metric in COUNTED}
    reasons: dict[str, list[PublishedRow]] = {}
    for row in rows:
        if row.name in left_out and row.name not in names:
            reasons.setdefault(left_out[row.name], []).append(row)
    for reason, of_reason in reasons.items():
        labels = dict.fromkeys(
            " ".join(filter(None, (row.method, row.variant))) for row in of_reason
        )
        found.append(f"Not run ({len(of_reason)} figures): {', '.join(labels)}: {reason}.")
    return found


COUNTED = {metric for _, metric in PARAMETERS}
