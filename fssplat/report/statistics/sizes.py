"""IoU by the size of the query's or the supports' object, and over other supports of a query."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fssplat.report.blocks import Block, Cell, Row
from fssplat.report.evidence.counts import Counts
from fssplat.report.evidence.gather import Evidence

Places = npt.NDArray[np.int64]  # [rows of counts] number of the bin; -1: in none

SHARE_EDGES = (0.01, 0.05, 0.20)  # of the image
PIXEL_STEP, PIXEL_BINS = 500, 10  # SD-AANet, Fig. 9: ten bins below 5,000 pixels


@dataclass(frozen=True)
class Bins:
    """How episodes are sorted by size, and the names of the bins."""

    names: tuple[str, ...]
    place: Callable[[Cell, Evidence], Places | None]  # None: the size is not recorded


def query_share(cell: Cell, evidence: Evidence) -> Places | None:
    """By the object's share of the query image."""
    counts = evidence.counts(cell.trial_id)
    if counts is None:
        return None
    return np.digitize(counts.object_pixels / counts.image_pixels, SHARE_EDGES)


def query_pixels(cell: Cell, evidence: Evidence) -> Places | None:
    """By the object's pixels in the query, below 5,000; larger ones are in no bin."""
    counts = evidence.counts(cell.trial_id)
    if counts is None:
        return None
    place = counts.object_pixels // PIXEL_STEP
    return np.where(place < PIXEL_BINS, place, -1)


def support_share(cell: Cell, evidence: Evidence) -> Places | None:
    """By the object's share of the support image, its mean over the shots."""
    counts, details = evidence.counts(cell.trial_id), evidence.details(cell.trial_id)
    if counts is None or details is None or len(counts) != len(details):
        return None
    return np.digitize(details.support_shares, SHARE_EDGES)


SHARE_NAMES = ("below 1 %", "1 to 5 %", "5 to 20 %", "20 % and more")
PIXEL_NAMES = tuple(f"{PIXEL_STEP * n} to {PIXEL_STEP * (n + 1) - 1}" for n in range(PIXEL_BINS))
QUERY_SHARE = Bins(SHARE_NAMES, query_share)
QUERY_PIXELS = Bins(PIXEL_NAMES, query_pixels)
SUPPORT_SHARE = Bins(SHARE_NAMES, support_share)


def row_by_size(
    row: Row, bins: Bins, block: Block, evidence: Evidence
) -> list[float | None] | None:
    """[bins] mIoU over the episodes of each bin; 0.01 is a point. None if it is not recorded.

    Mean over training seeds, then over the folds with an episode in the bin.
    """
    folds = []
    for fold in block.folds:
        cells = [cell for cell in row.cells if cell.trial.fold == fold]
        trials = [_by_bin(cell, bins, evidence) for cell in cells]
        known = [one for one in trials if one is not None]
        if not cells or len(known) < len(cells):
            return None
        folds.append(_mean(known))
    means = _mean(folds)
    return [None if np.isnan(value) else float(value) for value in means]


def episodes_by_size(row: Row, bins: Bins, evidence: Evidence) -> list[int]:
    """[bins] episodes and ways of each bin, over the folds; one training seed counts."""
    totals = np.zeros(len(bins.names), dtype=np.int64)
    for fold in {cell.trial.fold for cell in row.cells}:
        cell = next(one for one in row.cells if one.trial.fold == fold)
        place = bins.place(cell, evidence)
        if place is not None:
            totals += np.bincount(place[place >= 0], minlength=len(bins.names))
    return [int(total) for total in totals]


def _by_bin(cell: Cell, bins: Bins, evidence: Evidence) -> npt.NDArray[np.float64] | None:
    counts, place = evidence.counts(cell.trial_id), bins.place(cell, evidence)
    if counts is None or place is None:
        return None
    return np.array([_miou(counts, place == number) for number in range(len(bins.names))])


def _miou(counts: Counts, chosen: npt.NDArray[np.bool_]) -> float:
    """mIoU over the chosen episodes: classes, then episode seeds, that have one; NaN if none."""
    if not chosen.any():
        return float("nan")
    keys = np.stack([counts.seed[chosen], counts.class_id[chosen]])
    pairs, group = np.unique(keys, axis=1, return_inverse=True)
    sums = [
        np.bincount(group.ravel(), pixels[chosen]) for pixels in (counts.intersection, counts.union)
    ]
    iou = sums[0] / np.maximum(sums[1], 1)
    return float(np.mean([iou[pairs[0] == seed].mean() for seed in np.unique(pairs[0])]))


def _mean(several: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The mean without NaN; NaN if all are."""
    stacked = np.stack(several)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.asarray(np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan))


# ------------------------------------------------------------------ other supports of a query


@dataclass(frozen=True)
class Sensitivity:
    """How much an episode's IoU depends on the supports; 0.01 is a point."""

    queries: int  # pairs of a query and a class with at least two choices of supports
    worst: float  # IoU of the worst supports of each query, mean over the queries
    mean: float
    best: float
    deviation: float  # standard deviation over the supports (n - 1), mean over the queries


def row_sensitivity(row: Row, evidence: Evidence) -> Sensitivity | None:
    """Mean over training seeds; queries of all folds together. None if no query repeats."""
    found: dict[tuple[int, str, int], list[npt.NDArray[np.float64]]] = {}
    for cell in row.cells:
        counts = evidence.counts(cell.trial_id)
        for key, ious in (_other_supports(counts) if counts else {}).items():
            numbers = [min(ious), float(np.mean(ious)), max(ious), float(np.std(ious, ddof=1))]
            found.setdefault((cell.trial.fold, *key), []).append(np.array(numbers))
    if not found:
        return None
    means = np.mean([np.mean(seeds, axis=0) for seeds in found.values()], axis=0)
    return Sensitivity(len(found), *(float(value) for value in means))


def _other_supports(counts: Counts) -> dict[tuple[str, int], list[float]]:
    """(Query, class) -> IoU with each of its different supports, if there are at least two."""
    found: dict[tuple[str, int], dict[tuple[str, ...], float]] = {}
    rows = zip(
        counts.query, counts.class_id.tolist(), counts.supports, counts.iou.tolist(), strict=True
    )
    for query, class_id, supports, iou in rows:
        found.setdefault((query, class_id), {})[supports] = iou
    return {key: [*ious.values()] for key, ious in found.items() if len(ious) > 1}
