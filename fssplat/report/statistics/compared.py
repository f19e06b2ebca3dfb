"""Which rows of a table can be compared in pairs, and their differences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fssplat.report.blocks import Block, Row
from fssplat.report.evidence.gather import Evidence
from fssplat.report.statistics.classes import ClassInterval, class_interval
from fssplat.report.statistics.draws import Difference, Part, differences

Key = tuple[str, str]  # method and backbone of a row
UNFINISHED = "it is not finished"


def key_of(row: Row) -> Key:
    return row.method, row.backbone


@dataclass(frozen=True)
class Pair:
    """The difference of two rows, as the first minus the second."""

    images: Difference  # clustered by query image
    classes: ClassInterval | None  # clustered by class


@dataclass(frozen=True)
class Compared:
    """The pairs of a table's complete rows, in its order, and why other rows are left out."""

    rows: tuple[Row, ...]
    pairs: Mapping[tuple[Key, Key], Pair]  # the first row is the earlier one
    left_out: Mapping[Key, str]

    def pair(self, ours: Row, theirs: Row) -> Pair | None:
        """Ours minus theirs; None if one of them cannot be compared."""
        first, second = key_of(ours), key_of(theirs)
        if (first, second) in self.pairs:
            return self.pairs[first, second]
        found = self.pairs.get((second, first))
        return None if found is None else _reversed(found)


@dataclass
class Comparisons:
    """The comparisons of a report's tables, each computed once."""

    evidence: Evidence
    _found: dict[str, Compared] = field(default_factory=dict)

    def of(self, block: Block) -> Compared:
        if block.title not in self._found:
            self._found[block.title] = compare(block, self.evidence)
        return self._found[block.title]


def compare(block: Block, evidence: Evidence) -> Compared:
    """Every pair of the block's complete rows that were scored on the same episodes."""
    parts: dict[Key, list[Part]] = {}
    left_out: dict[Key, str] = {}
    for row in block.rows:
        found = UNFINISHED if row.unfinished else row_parts(row, block, evidence)
        if isinstance(found, str):
            left_out[key_of(row)] = found
        else:
            parts[key_of(row)] = found
    usual = Counter(drawn(of_row) for of_row in parts.values()).most_common(1)
    for key in [key for key, of_row in parts.items() if drawn(of_row) != usual[0][0]]:
        left_out[key] = "it was scored on other episodes"
        del parts[key]
    rows = tuple(row for row in block.rows if key_of(row) in parts)
    keys = [key_of(row) for row in rows]
    pairs = {
        (keys[i], keys[j]): Pair(found, over_classes(rows[i], rows[j], block, evidence))
        for (i, j), found in differences([parts[key] for key in keys]).items()
    }
    return Compared(rows, pairs, left_out)


def compare_rows(ours: Row, theirs: Row, block: Block, evidence: Evidence) -> Difference | None:
    """Ours minus theirs over query images; None if they have no common episodes on all folds.

    Unlike in `compare`, a row may have training seeds without a result.
    """
    sides = [row_parts(row, block, evidence) for row in (ours, theirs)]
    found = [side for side in sides if not isinstance(side, str)]
    if len(found) < 2 or drawn(found[0]) != drawn(found[1]):
        return None
    return differences(found).get((0, 1))


def row_parts(row: Row, block: Block, evidence: Evidence) -> list[Part] | str:
    """The trials of a row with their weights, or why the row cannot be compared."""
    if {cell.trial.fold for cell in row.cells} != set(block.folds):
        return UNFINISHED
    parts = []
    for cell in row.cells:
        counts = evidence.counts(cell.trial_id)
        if counts is None:
            return "its episodes cannot be read"
        seeds = sum(other.trial.fold == cell.trial.fold for other in row.cells)
        zero = cell.trial.protocol.absent_class == "zero"
        classes = int(cell.result.metrics.get("novel_classes", 0)) if zero else None
        weight = 1 / seeds / len(block.folds)
        parts.append(Part(counts, weight, classes or None, cell.trial.fold))
    return parts


def drawn(parts: Sequence[Part]) -> tuple[tuple[int, str], ...]:
    """What names the episodes of a row: equal values mean equal episodes on every fold."""
    return tuple(sorted({(part.fold, part.counts.episodes) for part in parts}))


def fold_classes(row: Row, fold: int, evidence: Evidence) -> dict[int, float]:
    """Class id -> IoU of a fold, mean over the row's training seeds; 0.01 is a point."""
    found: dict[int, list[float]] = {}
    for cell in row.cells:
        counts = evidence.counts(cell.trial_id) if cell.trial.fold == fold else None
        for class_id, iou in (counts.per_class if counts else {}).items():
            found.setdefault(class_id, []).append(iou)
    return {class_id: sum(values) / len(values) for class_id, values in sorted(found.items())}


def episode_ious(row: Row, fold: int, evidence: Evidence) -> npt.NDArray[np.float64]:
    """[episodes and ways] IoU on a fold in the order of the manifests, mean over training seeds.

    All trials must have readable episodes.
    """
    found = [evidence.counts(cell.trial_id) for cell in row.cells if cell.trial.fold == fold]
    return np.asarray(np.mean([counts.iou for counts in found if counts is not None], axis=0))


def over_classes(ours: Row, theirs: Row, block: Block, evidence: Evidence) -> ClassInterval | None:
    """The interval of ours minus theirs over the classes that both have."""
    folds = []
    for fold in block.folds:
        first, second = (fold_classes(row, fold, evidence) for row in (ours, theirs))
        folds.append({c: first[c] - second[c] for c in first if c in second})
    return class_interval([fold for fold in folds if fold])


def _reversed(pair: Pair) -> Pair:
    images, classes = pair.images, pair.classes
    return Pair(
        Difference(-images.difference, -images.high, -images.low, images.p, images.clusters),
        None if classes is None else ClassInterval(-classes.high, -classes.low, classes.classes),
    )
