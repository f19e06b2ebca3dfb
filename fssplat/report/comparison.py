"""Ours beside theirs: a published row, our trials for it, and what must be said about either."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fssplat.experiment.trial import Trial
from fssplat.report import published
from fssplat.report.published import PublishedRow
from fssplat.report.table import Block, blocks
from fssplat.results.records import Result

Values = list[float | None]  # points, None where there is no number


def comparison(
    row: PublishedRow,
    trials: Mapping[str, Trial],
    results: Mapping[str, Result],
    changed: bool,
) -> RenderableType:
    """Three lines under the folds and their mean: printed, ours, the difference in points."""
    folds = tuple(range(len(row.folds))) if row.dataset != "FSS-1000" else (0,)
    theirs: Values = [*(row.folds[fold] for fold in folds), row.mean]
    found = blocks(trials, results)
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", *(f"fold-{fold}" for fold in folds), "mean"):
        drawn.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    drawn.add_row("printed", *map(_shown, theirs))
    for block in found:
        for line in _lines(block, folds, published.metric(row)):
            drawn.add_row("ours", *map(_shown, line))
            gaps = map(_difference, line, theirs)
            drawn.add_row("difference", *(_shown(gap, sign="+") for gap in gaps))
    return Group(Text(_title(row)), drawn, *(Text(line) for line in remarks(row, found, changed)))


def remarks(row: PublishedRow, found: Sequence[Block], changed: bool) -> list[str]:
    """What a reader of the comparison must know, each on its line."""
    lines = []
    if row.doubtful:
        lines.append(f"Doubtful as printed: {row.notes}.")
    elif row.quoted:
        lines.append(f"The paper quotes this row, its protocol is not restated: {row.notes}.")
    elif row.notes != "own":
        lines.append(f"Note: {row.notes}.")
    if changed:
        lines.append(
            "Ours ran with other settings than the row's: the difference shows that the path "
            "works and no more."
        )
    lines += [f"Ours: {block.title}." for block in found]
    return lines


def _lines(block: Block, folds: Sequence[int], name: str) -> list[Values]:
    """Per row of our table: folds, and their mean once every fold of the printed row is there."""
    return [
        [*(row.fold(fold, name) for fold in folds), row.mean(folds, name)] for row in block.rows
    ]


def _title(row: PublishedRow) -> str:
    words = [row.table, row.dataset, row.method, row.variant, row.backbone]
    shots = "" if row.shot is None else f"{row.shot}-shot"
    mark = " (doubtful)" if row.doubtful else ""
    return f"{row.name}{mark}: {', '.join(word for word in [*words, shots, row.metric] if word)}"


def _difference(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _shown(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"


# ------------------------------------------------------------------ the list of rows


def listing(rows: Sequence[PublishedRow]) -> RenderableType:
    """Rows by name with their mean, and why one cannot be run again."""
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    headings = ("row", "dataset", "method", "variant", "backbone", "shot", "metric", "mean", "")
    for heading in headings:
        drawn.add_column(heading, justify="right" if heading in ("shot", "mean") else "left")
    for row in rows:
        shot = "" if row.shot is None else str(row.shot)
        cells = [row.name, row.dataset, row.method, row.variant, row.backbone, shot, row.metric]
        drawn.add_row(*cells, _shown(row.mean), _standing(row))
    return drawn


def _standing(row: PublishedRow) -> str:
    """What the last column says: nothing where the row can simply be run."""
    why = published.obstacle(row)
    if why:
        return f"not run: {why}"
    return "doubtful" if row.doubtful else "quoted" if row.quoted else ""
