"""Curves over steps with few points, and their mean and range over training seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POINTS = 50  # of a curve that is drawn

Series = Mapping[int, float]  # step -> value


@dataclass(frozen=True)
class SeedPoint:
    """Values at one step over training seeds."""

    step: int
    mean: float
    low: float
    high: float
    seeds: int

    @property
    def numbers(self) -> tuple[float, float, float]:
        return self.mean, self.low, self.high


def thinned(
    steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], last: int, points: int = POINTS
) -> Series:
    """The mean of the values within each of at most `points` equal parts of the steps 1 to `last`.

    A part is named by its last step, so that curves with the same `last` share their steps.
    """
    width = max(1, -(-last // points))
    part = (steps - 1) // width
    sums, counts = np.bincount(part, values), np.bincount(part)
    return {
        min(int(index + 1) * width, last): float(sums[index] / counts[index])
        for index in np.flatnonzero(counts)
    }


def over_seeds(series: Sequence[Series]) -> list[SeedPoint]:
    """Mean, lowest and highest value of the seeds that have one, at each step."""
    found = []
    for step in sorted({step for one in series for step in one}):
        values = [one[step] for one in series if step in one]
        mean = sum(values) / len(values)
        found.append(SeedPoint(step, mean, min(values), max(values), len(values)))
    return found
