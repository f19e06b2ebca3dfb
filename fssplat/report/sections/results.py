"""The main tables: methods down; folds, their mean and FB-IoU across."""

from collections.abc import Callable, Sequence
from statistics import stdev

from fssplat.report.blocks import Block, Cell, Row
from fssplat.report.document.content import (
    Heading,
    Line,
    Rank,
    Section,
    Table,
    Value,
    text_headings,
)
from fssplat.report.evidence.gather import Evidence
from fssplat.report.evidence.printed import printed_of
from fssplat.report.sections.labels import (
    chosen_on_novel,
    has_seen_classes,
    row_name,
    trial_ids,
)
from fssplat.report.statistics.compared import Comparisons

NOVEL, SEEN, CLEAR = "†", "‡", "*"
LEGEND = {
    CLEAR: "* the 95 % interval of the difference to the second in rank excludes 0 (bootstrap of "
    "query images over the same episodes).",
    NOVEL: "† the weights were chosen by their score on the novel classes.",
    SEEN: "‡ the backbone's pretraining has seen the test classes.",
}
RANKS = "Best in bold, second underlined, by the printed digits; equal numbers are marked alike."


def results(evidence: Evidence, comparisons: Comparisons) -> Section:
    """One table per data set, shots and protocol."""
    tables = tuple(main_table(block, evidence, comparisons) for block in evidence.blocks)
    return Section("results", "Results", tables)


def main_table(block: Block, evidence: Evidence, comparisons: Comparisons) -> Table:
    """mIoU of every row on every fold, its mean over folds, and FB-IoU, in per cent."""
    columns = [
        *(ranked([fold_value(row, fold) for row in block.rows]) for fold in block.folds),
        ranked([mean_value(row, block) for row in block.rows], starred(block, comparisons)),
        ranked([mean_value(row, block, "fb_iou") for row in block.rows]),
    ]
    lines: list[Line] = []
    for number, row in enumerate(block.rows):
        name = " ".join([row.method, *row_marks(row)])
        numbers = tuple(column[number] for column in columns)
        lines.append(Line((name, row.backbone, *numbers)))
        if evidence.options.published:
            lines += printed_lines(row, block)
    folds = (f"fold-{fold}" for fold in block.folds)
    names = ("method", "backbone"), (*folds, "mean", "FB-IoU")
    return Table(
        name=f"results-{block.name}",
        caption=f"{block.title}, in per cent.",
        headings=(*text_headings(*names[0]), *map(Heading, names[1])),
        lines=tuple(lines),
        legend=legend(block, lines),
    )


def fold_value(row: Row, fold: int, name: str = "miou") -> Value:
    """A fold's mean over training seeds, with its deviation over them if there are several."""
    cells = [cell for cell in row.cells if cell.trial.fold == fold]
    values = [cell.percent(name) for cell in cells]
    spread = stdev(values) if len(values) > 1 else None
    return Value(row.fold(fold, name), spread=spread, trials=_ids(cells))


def mean_value(row: Row, block: Block, name: str = "miou") -> Value:
    """The mean over folds of a finished row; no number for an unfinished one."""
    if row.unfinished:
        return Value(None, trials=trial_ids(row))
    spread = row.spread(block.folds) if name == "miou" else None
    return Value(row.mean(block.folds, name), spread=spread, trials=trial_ids(row))


def ranked(
    values: Sequence[Value], star: Callable[[int, int], bool] = lambda best, second: False
) -> list[Value]:
    """The values with their ranks; the best one gets a star if `star(best, second)`."""
    known = {value.shown: value.number for value in values if value.number is not None}
    order = sorted(known, key=lambda text: -(known[text] or 0.0))
    ranks: dict[str, Rank] = {}
    if len([value for value in values if value.number is not None]) > 1:
        ranks = dict(zip(order, ("best", "second"), strict=False))
    places = [[i for i, one in enumerate(values) if one.shown == text] for text in order[:2]]
    only = len(places) == 2 and len(places[0]) == 1
    starred = only and all(star(places[0][0], second) for second in places[1])
    return [
        Value(
            value.number,
            spread=value.spread,
            rank=ranks.get(value.shown, "") if value.number is not None else "",
            marks=CLEAR if starred and number == places[0][0] else "",
            trials=value.trials,
        )
        for number, value in enumerate(values)
    ]


def starred(block: Block, comparisons: Comparisons) -> Callable[[int, int], bool]:
    """Whether the interval of one row's lead over another excludes 0."""

    def excludes(best: int, second: int) -> bool:
        pair = comparisons.of(block).pair(block.rows[best], block.rows[second])
        return pair is not None and pair.images.low > 0

    return excludes


def row_marks(row: Row) -> list[str]:
    trials = [cell.trial for cell in row.cells]
    marks = {NOVEL: any(map(chosen_on_novel, trials)), SEEN: any(map(has_seen_classes, trials))}
    return [mark for mark, there in marks.items() if there]


def legend(block: Block, lines: Sequence[Line]) -> tuple[str, ...]:
    """What the marks of this table mean."""
    text = " ".join(
        cell if isinstance(cell, str) else cell.text for one in lines for cell in one.cells
    )
    found = [RANKS, *(meaning for mark, meaning in LEGEND.items() if mark in text)]
    if "±" in text:
        found.append(
            "± is the standard deviation over training seeds; in the mean of a row with one "
            "training seed, it is the one over episode seeds."
        )
    unfinished = [row_name(row, block) for row in block.rows if row.unfinished]
    if unfinished:
        found.append(f"Not finished, so without a mean: {', '.join(unfinished)}.")
    return tuple(found)


def printed_lines(row: Row, block: Block) -> list[Line]:
    """The papers' printed values of this row, under their own protocols."""
    lines = []
    for printed in printed_of(row.cells[0].trial) if row.cells else ():
        folds = [Value(printed.fold(fold)) for fold in block.folds]
        numbers = (*folds, Value(printed.mean), Value(printed.fb_iou))
        lines.append(Line((printed.label, "", *numbers), "beneath"))
    return lines


def _ids(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.trial_id for cell in cells)
