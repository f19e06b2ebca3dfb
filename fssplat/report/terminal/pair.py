"""One pair of rows in a terminal: their numbers, the difference, and how certain it is."""

from collections.abc import Iterator
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fssplat.common.errors import InputError
from fssplat.common.printing import whole_line
from fssplat.common.similar import known
from fssplat.report.blocks import Block, Row
from fssplat.report.document.content import shown
from fssplat.report.evidence.gather import Evidence
from fssplat.report.statistics.classes import ClassInterval
from fssplat.report.statistics.compared import compare_rows, episode_ious, over_classes
from fssplat.report.statistics.draws import Difference


def named_pairs(evidence: Evidence, first: str, second: str) -> list[tuple[Block, Row, Row]]:
    """The rows of two methods in every table: METHOD, or METHOD@BACKBONE; without a backbone,
    rows of the same backbone are paired. Raises InputError for an unknown name, or if no table has
    both."""
    rows = [row for block in evidence.blocks for row in block.rows]
    names = [*(row.method for row in rows), *(f"{row.method}@{row.backbone}" for row in rows)]
    for name in (first, second):
        if name not in names:
            raise InputError(f"{name}: no row has this name. {known(name, dict.fromkeys(names))}")
    found = [
        (block, ours, theirs)
        for block in evidence.blocks
        for ours in block.rows
        for theirs in block.rows
        if _is(ours, first) and _is(theirs, second)
        if ours.backbone == theirs.backbone or "@" in first or "@" in second
        if ours != theirs
    ]
    if not found:
        raise InputError(f"{first}, {second}: no table has both. Name two different rows of one.")
    return found


def pair_of_ids(evidence: Evidence, first: str, second: str) -> tuple[Block, Row, Row]:
    """Two trials as rows of one cell. Raises InputError for different tables or folds."""
    trials = [evidence.trials[one] for one in (first, second)]
    if len(evidence.blocks) > 1 or trials[0].fold != trials[1].fold:
        raise InputError(
            f"{first} is {trials[0].title}, {second} is {trials[1].title}: they have no episodes "
            "in common. Compare trials of one data set, fold, shot and protocol."
        )
    (block,) = evidence.blocks
    cells = {cell.trial_id: cell for row in block.rows for cell in row.cells}
    rows = [
        Row(cells[one].trial.method.label, cells[one].trial.backbone.name, (cells[one],))
        for one in (first, second)
    ]
    return replace(block, rows=tuple(rows)), rows[0], rows[1]


def pair_table(block: Block, ours: Row, theirs: Row, evidence: Evidence) -> RenderableType:
    """Folds down; both rows and their difference across; intervals below."""
    names = _names(ours, theirs)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("", *names, "difference"):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for fold in block.folds:
        table.add_row(f"fold-{fold}", *_numbers(ours.fold(fold), theirs.fold(fold)))
    table.add_row("mean", *_numbers(ours.mean(block.folds), theirs.mean(block.folds)))
    fb_iou = (row.mean(block.folds, "fb_iou") for row in (ours, theirs))
    table.add_row("FB-IoU", *_numbers(*fb_iou))
    lines = list(certainty(block, ours, theirs, evidence))
    below = map(whole_line, [*lines, *evidence.problems])
    return Group(Text(block.title), table, *below, Text(""))


def certainty(block: Block, ours: Row, theirs: Row, evidence: Evidence) -> Iterator[str]:
    """Lines with both intervals of the mean's difference, and who wins how many episodes."""
    first, second = _names(ours, theirs)
    found = compare_rows(ours, theirs, block, evidence)
    if found is None:
        yield "No interval: the rows have no common, readable episodes on all folds."
        return
    number = shown(100 * found.difference, 1, signed=True)
    yield f"{first} minus {second}: {number} points of mean mIoU, on the same episodes."
    yield f"  by query image  {_interval(found)}, p = {found.p:.2g}, {found.clusters} images"
    classes = over_classes(ours, theirs, block, evidence)
    if classes is not None:
        yield f"  by class        {_interval(classes)}, {classes.classes} classes"
    better, worse, equal = wins(ours, theirs, evidence)
    yield f"  episodes        {better} better, {worse} worse, {equal} equal"


def wins(ours: Row, theirs: Row, evidence: Evidence) -> tuple[int, int, int]:
    """Episodes in which ours has the higher, the lower, the same IoU; each way counts.

    The IoU of an episode is its mean over the training seeds of the row.
    """
    better = worse = equal = 0
    for fold in sorted({cell.trial.fold for cell in ours.cells}):
        gain = episode_ious(ours, fold, evidence) - episode_ious(theirs, fold, evidence)
        better += int((gain > 0).sum())
        worse += int((gain < 0).sum())
        equal += int((gain == 0).sum())
    return better, worse, equal


def _is(row: Row, name: str) -> bool:
    return name in (row.method, f"{row.method}@{row.backbone}")


def _names(ours: Row, theirs: Row) -> tuple[str, str]:
    """The methods, with their backbones or ids as far as they need them to differ."""
    names = [row.method for row in (ours, theirs)]
    if names[0] == names[1]:
        names = [f"{row.method}, {row.backbone}" for row in (ours, theirs)]
    if names[0] == names[1]:
        names = [f"{row.method}, {row.cells[0].trial_id}" for row in (ours, theirs)]
    return names[0], names[1]


def _numbers(ours: float | None, theirs: float | None) -> list[str]:
    gap = None if ours is None or theirs is None else ours - theirs
    return [shown(ours, 1), shown(theirs, 1), shown(gap, 1, signed=True)]


def _interval(found: Difference | ClassInterval) -> str:
    low, high = (shown(100 * end, 1, signed=True) for end in (found.low, found.high))
    return f"95 % [{low}, {high}]"
