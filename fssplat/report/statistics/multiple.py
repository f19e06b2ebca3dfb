"""Many comparisons at once: Holm's correction, and ranks over many measurements.

Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6,
1979. Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

K = TypeVar("K", bound=Hashable)
LEVEL = 0.95


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Adjusted p by comparison: below 0.05, the family-wise error rate is at most 5 %."""
    order = sorted(p_values, key=lambda key: p_values[key])
    adjusted: dict[K, float] = {}
    highest = 0.0
    for index, key in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - index) * p_values[key]))
        adjusted[key] = highest
    return {key: adjusted[key] for key in p_values}


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of methods, 1 the best, and the difference that is significant."""

    ranks: tuple[float, ...]  # of each method
    critical: float  # Nemenyi's critical difference of two mean ranks
    measurements: int  # over which the ranks are averaged
    p: float  # Friedman's test of equal ranks

    def groups(self) -> list[tuple[int, int]]:
        """First and last position, in order of rank, of each longest run within `critical`."""
        ordered = sorted(self.ranks)
        found: list[tuple[int, int]] = []
        for first in range(len(ordered)):
            last = max(
                i for i in range(first, len(ordered)) if ordered[i] - ordered[first] < self.critical
            )
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def ranking(scores: Sequence[Sequence[float]]) -> Ranking | None:
    """[methods][measurements], higher is better. Returns None for too few of either."""
    from scipy import stats

    table = np.array(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 3 or table.shape[1] < 2:
        return None
    methods, measurements = table.shape
    ranks = stats.rankdata(-table, axis=0).mean(axis=1)
    quantile = float(stats.studentized_range.ppf(LEVEL, methods, np.inf)) / 2**0.5
    critical = quantile * (methods * (methods + 1) / (6 * measurements)) ** 0.5
    equal = bool((table == table[0]).all())
    p = 1.0 if equal else float(stats.friedmanchisquare(*table).pvalue)
    return Ranking(tuple(ranks.tolist()), critical, measurements, p)
