"""Differences of mIoU on the same episodes: a paired bootstrap whose clusters are query images.

An image is often the query of several episodes, also in several episode seeds and folds. Therefore
images are drawn with replacement, each with all its episodes. Every row of a table is scored on the
same draws as the main result is: pixels summed per class, IoU, mean over classes, over episode
seeds, over training seeds, over folds.

The interval is the symmetric bootstrap-t interval (Hall, The Bootstrap and Edgeworth Expansion,
1992, section 3.6): the difference divided by its standard error is computed on each draw, and its
95 % quantile takes the place of Student's. The standard error is the linearised one of a ratio of
sums, clustered by image. A percentile interval would be too narrow, since a few large objects
dominate the sums.

The interval describes the choice of images. Classes and trainings are as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from fssplat.report.evidence.counts import Counts

DRAWS = 1000
LEVEL = 0.95
CHUNK = 50  # draws computed at once, which bounds the memory
SEED = 0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One trial of a row, and its weight in the row's mean over folds and training seeds."""

    counts: Counts
    weight: float
    classes: int | None = None  # divisor of the mean over classes; None: those with episodes
    fold: int = 0


@dataclass(frozen=True)
class Difference:
    """A difference of mIoU; 0.01 is one percentage point."""

    difference: float
    low: float
    high: float
    p: float  # of no difference, two-sided
    clusters: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


class Row:
    """A row of a table as sparse sums: images x (trial, episode seed, class)."""

    def __init__(self, parts: Sequence[Part], images: dict[str, int]) -> None:
        image: list[int] = []
        column: list[int] = []
        pixels: list[npt.NDArray[np.int64]] = []
        groups: list[int] = []  # of each column: its trial and episode seed
        weights: list[float] = []  # of each group
        divisors: list[int | None] = []  # of each group
        columns = 0
        for part in parts:
            counts = part.counts
            seeds = np.unique(counts.seed)
            for seed in seeds:
                rows = np.flatnonzero(counts.seed == seed)
                classes, inner = np.unique(counts.class_id[rows], return_inverse=True)
                groups += [len(weights)] * len(classes)
                weights.append(part.weight / len(seeds))
                divisors.append(part.classes)
                image += [images[key] for key in counts.query[rows]]
                column += (columns + inner).tolist()
                pixels.append(np.stack([counts.intersection[rows], counts.union[rows]]))
                columns += len(classes)
        shape = (len(images), columns)
        where = (np.array(image), np.array(column))
        values = np.concatenate(pixels, axis=1).astype(np.float64)
        self.intersection = sparse.csc_matrix((values[0], where), shape)
        self.union = sparse.csc_matrix((values[1], where), shape)
        self.episodes = sparse.csc_matrix((np.ones(len(image)), where), shape)
        self.group = np.array(groups)
        self.weights = np.array(weights)
        self.divisors = divisors

    def on(self, draws: Floats) -> tuple[Floats, Floats]:
        """Draws [b, images] -> mIoU of each draw [b], and each image's influence [b, images].

        The influences of a draw, weighted by how often it has each image, sum to zero. Their sum of
        squares is the linearised variance.
        """
        union = np.maximum(draws @ self.union, 1.0)
        iou = (draws @ self.intersection) / union
        present = draws @ self.episodes > 0
        share = np.zeros_like(iou)
        for group, (weight, classes) in enumerate(zip(self.weights, self.divisors, strict=True)):
            mine = self.group == group
            count = present[:, mine].sum(axis=1, keepdims=True) if classes is None else classes
            share[:, mine] = weight * present[:, mine] / np.maximum(count, 1)
        per_pixel = share / union
        influence = per_pixel @ self.intersection.T - (per_pixel * iou) @ self.union.T
        return np.asarray((share * iou).sum(axis=1)), np.asarray(influence)


def image_index(rows: Sequence[Sequence[Part]]) -> dict[str, int]:
    """Query image -> cluster number, for all rows of a table."""
    keys = {key for parts in rows for part in parts for key in part.counts.query}
    return {key: number for number, key in enumerate(sorted(keys))}


def differences(
    rows: Sequence[Sequence[Part]], draws: int = DRAWS
) -> dict[tuple[int, int], Difference]:
    """(i, j) -> mIoU of row i minus that of row j, for i < j; no pair if no cluster can be drawn.

    All rows must have the same episodes.
    """
    images = image_index(rows)
    if len(images) < 2 or len(rows) < 2:
        return {}
    sums = [Row(parts, images) for parts in rows]
    whole, errors = _scores(sums, np.ones((1, len(images))))
    drawn = [
        _scores(sums, _counts(len(images), min(CHUNK, draws - first), first))
        for first in range(0, draws, CHUNK)
    ]
    scores = np.concatenate([part[0] for part in drawn])
    deviations = np.concatenate([part[1] for part in drawn])
    return {
        (i, j): _difference(
            whole[0, i] - whole[0, j],
            errors[0, i, j],
            scores[:, i] - scores[:, j],
            deviations[:, i, j],
            len(images),
        )
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
    }


def _counts(images: int, draws: int, first: int) -> Floats:
    """[draws, images]: how often each draw has each image."""
    generator = np.random.default_rng((SEED, first))
    return generator.multinomial(images, np.full(images, 1 / images), draws).astype(np.float64)


def _scores(rows: Sequence[Row], draws: Floats) -> tuple[Floats, Floats]:
    """mIoU of each row [b, rows], and the standard error of each difference [b, rows, rows]."""
    scores, influences = zip(*(row.on(draws) for row in rows), strict=True)
    stacked = np.stack(influences, axis=1)  # [b, rows, images]
    products = np.einsum("bin,bn,bjn->bij", stacked, draws, stacked, optimize=True)
    squares = np.einsum("bii->bi", products)
    variance = squares[:, :, None] + squares[:, None, :] - 2 * products
    return np.stack(scores, axis=1), np.sqrt(np.maximum(variance, 0.0))


def _difference(
    difference: float, error: float, drawn: Floats, errors: Floats, clusters: int
) -> Difference:
    if error < 1e-12 * max(1.0, abs(difference)):  # every image has the same difference
        return Difference(difference, difference, difference, float(difference == 0), clusters)
    studentised = np.abs(drawn - difference) / np.maximum(errors, 1e-3 * error)
    quantile = float(np.quantile(studentised, LEVEL))
    half = quantile * error
    p = p_value(abs(difference) / error, quantile)
    return Difference(difference, difference - half, difference + half, p, clusters)


def p_value(t: float, quantile: float) -> float:
    """Two-sided p of a studentised difference.

    It is that of Student's distribution with the degrees of freedom that have the same quantile at
    LEVEL, so that p < 1 - LEVEL if and only if the interval excludes 0. Draws alone could give no p
    below 1 / DRAWS, which is too coarse for many comparisons.
    """
    from scipy import optimize, stats

    upper = (1 + LEVEL) / 2
    if quantile <= stats.norm.ppf(upper):
        return float(2 * stats.norm.sf(t * stats.norm.ppf(upper) / quantile))
    gap: Any = lambda df: stats.t.ppf(upper, df) - quantile  # noqa: E731
    most, least = 1e6, 1.0
    if gap(most) >= 0:
        return float(2 * stats.norm.sf(t * stats.norm.ppf(upper) / quantile))
    if gap(least) <= 0:
        return float(2 * stats.t.sf(t * stats.t.ppf(upper, least) / quantile, least))
    return float(2 * stats.t.sf(t, optimize.brentq(gap, least, most)))
