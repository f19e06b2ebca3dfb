"""Tables of published rows: one beside our results for it, or a list of many."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fssplat.common.printing import whole_line
from fssplat.experiment.trial import Trial
from fssplat.report import published
from fssplat.report.blocks import Block, blocks
from fssplat.report.published import PublishedRow
from fssplat.report.published_tables import difference, folds_of, our_values, printed_values
from fssplat.results.records import Result

CHANGED = (
    "Ours ran with other settings than the paper's: the difference only shows that the code runs."
)


def comparison_table(
    row: PublishedRow,
    trials: Mapping[str, Trial],
    results: Mapping[str, Result],
    changed: bool,
) -> RenderableType:
    """A row's printed values, ours, and the difference, for each fold and the mean, with remarks.

    `changed`: ours ran with other settings than the row's.
    """
    theirs = printed_values(row)
    found = blocks(trials, results)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", *(f"fold-{fold}" for fold in folds_of(row)), "mean"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    table.add_row("printed", *map(signed_percent, theirs))
    for line in (line for block in found for line in our_values(row, block)):
        table.add_row("ours", *map(signed_percent, line))
        gaps = map(difference, line, theirs)
        table.add_row("difference", *(signed_percent(gap, sign="+") for gap in gaps))
    return Group(
        Text(_title(row)), table, *(whole_line(line) for line in remarks(row, found, changed))
    )


def remarks(row: PublishedRow, found: Sequence[Block], changed: bool) -> list[str]:
    """What a reader of the comparison must know, one sentence per line."""
    lines = []
    if row.doubtful:
        lines.append(f"Doubtful as printed: {row.notes}.")
    elif row.quoted:
        lines.append(f"The paper quotes this row and does not say its protocol: {row.notes}.")
    elif row.notes != "own":
        lines.append(f"Note: {row.notes}.")
    if published.own_settings(row):
        lines.append(f"Ours: {published.own_settings(row)}.")
    if changed:
        lines.append(CHANGED)
    lines += [f"Ours: {block.title}." for block in found]
    return lines


def _title(row: PublishedRow) -> str:
    words = [row.table, row.dataset, row.method, row.variant, row.backbone]
    shots = "" if row.shot is None else f"{row.shot}-shot"
    mark = " (doubtful)" if row.doubtful else ""
    return f"{row.name}{mark}: {', '.join(word for word in [*words, shots, row.metric] if word)}"


def signed_percent(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"


# ------------------------------------------------------------------ the list of rows


def published_rows_table(rows: Sequence[PublishedRow]) -> RenderableType:
    """Rows by name with their mean, for 80 columns or more: names are never cut or wrapped.

    Under a row that cannot be run again is the reason.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("row", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("mean", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        shots = "" if row.shot is None else f"{row.shot}-shot"
        words = [row.dataset, row.method, row.variant, row.backbone, shots, row.metric]
        what = ", ".join(word for word in words if word)
        why = published.why_not_run(row)
        reason = f"\nnot run: {why}" if why else ""
        table.add_row(row.name, what + reason, signed_percent(row.mean), _comment(row))
    return table


def _comment(row: PublishedRow) -> str:
    """The last column; empty if the numbers of the row are certain and its own."""
    return "doubtful" if row.doubtful else "quoted" if row.quoted else ""
