"""Any pair of rows: differences with intervals, corrected for their number, and mean ranks."""

from collections.abc import Iterator

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
    shown,
    text_headings,
)
from fssplat.report.evidence.gather import Evidence
from fssplat.report.figures.ranks import critical_differences
from fssplat.report.sections.labels import row_name, short_title, trial_ids
from fssplat.report.statistics.compared import Compared, Comparisons, Pair, fold_classes, key_of
from fssplat.report.statistics.multiple import LEVEL, Ranking, holm, ranking

SURE = "*"
ALPHA = 1 - LEVEL
HOW = (
    "Rows are compared on the same episodes. Clustered by query image: how far the difference "
    "depends on the choice of images (bootstrap-t; all episodes of an image stay together). "
    "Clustered by class: how far it depends on the choice of classes (Student's t). Neither "
    "describes the variation between trainings."
)


def pairs(evidence: Evidence, comparisons: Comparisons) -> Section | None:
    """A matrix, a list and a diagram per block with at least two complete rows."""
    parts: list[Part] = [Text(HOW)]
    for block in evidence.blocks:
        compared = comparisons.of(block)
        if compared.pairs:
            adjusted = holm({key: pair.images.p for key, pair in compared.pairs.items()})
            corrected = {frozenset(key): p for key, p in adjusted.items()}
            parts += [matrix(block, compared, corrected), pair_list(block, compared, corrected)]
            parts += rank_figure(block, compared, evidence)
    return Section("pairs", "Any pair", tuple(parts)) if len(parts) > 1 else None


Corrected = dict[frozenset[tuple[str, str]], float]  # p after Holm's correction, by pair


def matrix(block: Block, compared: Compared, corrected: Corrected) -> Table:
    """Row minus column, in points."""
    names = [row_name(row, block) for row in compared.rows]
    lines = []
    for row, name in zip(compared.rows, names, strict=True):
        cells = [matrix_cell(row, other, compared, corrected) for other in compared.rows]
        lines.append(Line((name, *cells)))
    return Table(
        name=f"pairs-{block.name}",
        caption=f"{short_title(block)}: difference of mean mIoU, row minus column, in percentage "
        "points, with its 95 % interval clustered by query image.",
        headings=(Heading("", False), *map(Heading, names)),
        lines=tuple(lines),
        legend=(
            f"{SURE} p < 0.05 after Holm's correction for the {len(compared.pairs)} pairs of this "
            "table.",
        ),
        sortable=False,
    )


def matrix_cell(row: Row, other: Row, compared: Compared, corrected: Corrected) -> Value | str:
    pair = compared.pair(row, other)
    if pair is None:
        return ""
    sure = corrected[frozenset((key_of(row), key_of(other)))] < ALPHA
    return image_value(pair, trial_ids(row) + trial_ids(other), SURE if sure else "")


def pair_list(block: Block, compared: Compared, corrected: Corrected) -> Table:
    """One line per pair, the better row first, with both intervals and the p values."""
    lines = []
    for row, other in better_first(compared):
        pair = compared.pair(row, other)
        assert pair is not None, "only pairs of the table are listed"
        ids = trial_ids(row) + trial_ids(other)
        cells = (
            image_value(pair, ids),
            class_value(pair, ids),
            Value(pair.images.p, 4, trials=ids),
            Value(corrected[frozenset((key_of(row), key_of(other)))], 4, trials=ids),
        )
        lines.append(Line((row_name(row, block), row_name(other, block), *cells)))
    first = next(iter(compared.pairs.values()))
    classes = first.classes.classes if first.classes else 0
    numbers = "by query image", "by class", "p", "p, Holm"
    return Table(
        name=f"pair-list-{block.name}",
        caption=f"{short_title(block)}: differences in percentage points with 95 % intervals, "
        f"clustered by query image ({first.images.clusters} images) and by class ({classes} "
        "classes); p of no difference, clustered by query image.",
        headings=(*text_headings("row", "minus"), *map(Heading, numbers)),
        lines=tuple(lines),
    )


def better_first(compared: Compared) -> Iterator[tuple[Row, Row]]:
    """The pairs of rows in the order of the table, each with its better row first."""
    rows = {key_of(row): row for row in compared.rows}
    for (first, second), pair in compared.pairs.items():
        ordered = (first, second) if pair.images.difference >= 0 else (second, first)
        yield rows[ordered[0]], rows[ordered[1]]


def image_value(pair: Pair, trials: tuple[str, ...], marks: str = "") -> Value:
    """The difference with its interval clustered by query image, in points."""
    one = pair.images
    interval = 100 * one.low, 100 * one.high
    number = 100 * one.difference
    return Value(number, signed=True, interval=interval, marks=marks, trials=trials)


def class_value(pair: Pair, trials: tuple[str, ...]) -> Value:
    """The difference with its interval clustered by class, in points."""
    if pair.classes is None:
        return Value(None)
    interval = 100 * pair.classes.low, 100 * pair.classes.high
    number = 100 * pair.images.difference
    return Value(number, signed=True, interval=interval, trials=trials)


def rank_figure(block: Block, compared: Compared, evidence: Evidence) -> list[Part]:
    """A critical-difference diagram over folds and classes; none for fewer than three rows."""
    scores = [
        [iou for fold in block.folds for iou in fold_classes(row, fold, evidence).values()]
        for row in compared.rows
    ]
    if len({len(one) for one in scores}) != 1:
        return []
    found = ranking(scores)
    if found is None:
        return []
    names = [row_name(row, block) for row in compared.rows]
    lines = [
        Line((name, Value(rank, 2, trials=trial_ids(row))))
        for name, rank, row in zip(names, found.ranks, compared.rows, strict=True)
    ]
    caption = rank_caption(block, found)
    data = Table(
        f"ranks-{block.name}", caption, (Heading("row", False), Heading("rank")), tuple(lines)
    )
    return [Figure(data.name, caption, lambda: critical_differences(names, found), data)]


def rank_caption(block: Block, found: Ranking) -> str:
    return (
        f"{short_title(block)}: mean rank over {found.measurements} fold and class pairs, 1 is the "
        "best. Rows that a bar joins do not differ significantly (Nemenyi, critical difference "
        f"{shown(found.critical, 2)}). Friedman's test of equal ranks: p = {shown(found.p, 4)}."
    )
