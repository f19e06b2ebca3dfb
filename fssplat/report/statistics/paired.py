"""Intervals of the difference between two methods on the same episodes: a paired bootstrap.

Episodes are drawn again with replacement, within each fold and episode seed. Both methods are
scored on each draw like the main result: pixels summed per class, IoU, mean over classes, over
episode seeds, over training seeds, over folds. All training seeds of a fold use the same draws,
since they share its episodes. So more training seeds do not narrow the interval: it describes the
choice of episodes, not the variation between trainings. Source: Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Literal

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0  # of the draws, which are the same for every pair of methods

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Episodes:
    """One trial's scored episodes of one episode seed: e episodes, one row per way of each."""

    names: tuple[tuple[object, ...], ...]  # [e] images and classes; equal names mean equal episodes
    episode: npt.NDArray[np.int64]  # [rows] position of the row's episode, 0 to e - 1
    class_id: npt.NDArray[np.int64]  # [rows]
    intersection: Floats  # [rows] pixels
    union: Floats  # [rows] pixels


@dataclass(frozen=True)
class Pair:
    """Two trials of one fold on the same episodes: episode seed -> episodes."""

    fold: int
    ours: Mapping[int, Episodes]
    theirs: Mapping[int, Episodes]
    classes: int = 0  # divisor of the mean if absent classes count as zero


@dataclass(frozen=True)
class Interval:
    """A difference of mIoU with its interval; 0.01 is one percentage point."""

    difference: float
    low: float
    high: float


def read_episodes(parquet: bytes, score: str) -> dict[int, Episodes]:
    """Episode seed -> episodes at one scored size, from a trial's episodes.parquet."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = ["seed", "episode", "score", "way", "class_id", "query", "supports"]
    table = pq.read_table(BytesIO(parquet), columns=[*wanted, "intersection", "union"])
    table = table.filter(pc.equal(table["score"], score))
    seeds = table["seed"].to_numpy()
    return {int(seed): _episodes(table.filter(seeds == seed)) for seed in np.unique(seeds)}


def paired_interval(
    pairs: Sequence[Pair], absent: Literal["skip", "zero"] = "skip", resamples: int = RESAMPLES
) -> Interval | None:
    """mIoU of ours minus theirs, with its 95 % interval; returns None if their episodes differ.

    Several pairs of a fold are its training seeds.
    """
    if any(_names(pair.ours) != _names(pair.theirs) for pair in pairs):
        return None
    folds: dict[int, list[Floats]] = {}
    for pair in pairs:
        folds.setdefault(pair.fold, []).append(_differences(pair, absent, resamples))
    found = np.mean([np.mean(trained, axis=0) for trained in folds.values()], axis=0)
    low, high = np.quantile(found[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(found[0]), float(low), float(high))


def _differences(pair: Pair, absent: str, resamples: int) -> Floats:
    """mIoU of ours minus theirs on all episodes, then on every draw: [resamples + 1]."""
    found = []
    for seed in sorted(pair.ours):
        sides = pair.ours[seed], pair.theirs[seed]
        weights = draw_counts(len(sides[0].names), resamples, pair.fold * 1_000_003 + seed)
        ours, theirs = (miou(episodes, weights, absent, pair.classes) for episodes in sides)
        found.append(ours - theirs)
    return np.asarray(np.mean(found, axis=0))


def miou(
    episodes: Episodes, weights: npt.NDArray[np.float32], absent: str = "skip", classes: int = 0
) -> Floats:
    """mIoU of each draw: weights [draws, e] say how often an episode was drawn -> [draws]."""
    per_class, present = [], []
    for class_id in np.unique(episodes.class_id):
        rows = episodes.class_id == class_id
        counts = weights[:, episodes.episode[rows]].astype(np.float64)
        intersection = counts @ episodes.intersection[rows]
        union = counts @ episodes.union[rows]
        per_class.append(intersection / np.maximum(union, 1.0))
        present.append(counts.sum(axis=1) > 0)
    seen = np.sum(present, axis=0)
    total = np.sum(np.where(present, per_class, 0.0), axis=0)
    return np.asarray(total / np.maximum(classes if absent == "zero" else seen, 1))


@lru_cache(maxsize=32)
def draw_counts(episodes: int, resamples: int, seed: int) -> npt.NDArray[np.float32]:
    """[resamples + 1, episodes]: ones, then how often each draw contains each episode."""
    generator = np.random.default_rng((SEED, seed))
    weights = np.ones((resamples + 1, episodes), dtype=np.float32)
    for row in range(1, resamples + 1):
        picked = generator.integers(0, episodes, size=episodes)
        weights[row] = np.bincount(picked, minlength=episodes)
    return weights


def _episodes(table: object) -> Episodes:
    columns = {name: table[name] for name in table.column_names}  # type: ignore[index, attr-defined]
    numbers = columns["episode"].to_numpy()
    order = np.unique(numbers)
    queries, supports = columns["query"].to_pylist(), columns["supports"].to_pylist()
    ids = columns["class_id"].to_numpy()
    names: dict[int, tuple[object, ...]] = {}
    for number, query, support, class_id in zip(numbers, queries, supports, ids, strict=True):
        names[number] = (*names.get(number, (query, *support)), int(class_id))
    return Episodes(
        tuple(names[number] for number in order),
        np.searchsorted(order, numbers),
        ids.astype(np.int64),
        columns["intersection"].to_numpy().astype(np.float64),
        columns["union"].to_numpy().astype(np.float64),
    )


def _names(fold: Mapping[int, Episodes]) -> dict[int, tuple[tuple[object, ...], ...]]:
    return {seed: episodes.names for seed, episodes in fold.items()}
