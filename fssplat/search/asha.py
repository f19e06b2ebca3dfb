"""ASHA, the rule that ends weak points at a milestone. Source: Li et al., MLSys 2020.

It has no pause: a point ends at once if it is weak among the points that came before it, and it
does not wait for the others.
"""

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from fssplat.search.storage import first_number


def passes_milestone(value: float, others: Sequence[float], reduction: float) -> bool:
    """Whether a value is among the best 1 / reduction of the values that this milestone has so far.

    It passes if it is not below the (1 - 1 / reduction) quantile of `others`; values that are not
    finite do not count.
    """
    known = sorted(other for other in others if math.isfinite(other))
    if not known:
        return True
    position = (1 - 1 / reduction) * (len(known) - 1)
    low, share = math.floor(position), position - math.floor(position)
    high = min(low + 1, len(known) - 1)
    return value >= known[low] * (1 - share) + known[high] * share


def scores_by_milestone(trials: Sequence[FrozenTrial]) -> dict[int, dict[int, float]]:
    """Milestone (counted from 1) -> mIoU by point. A point that was drawn twice counts once."""
    found: dict[int, dict[int, float]] = {}
    for trial in trials:
        for milestone, value in trial.intermediate_values.items():
            found.setdefault(milestone, {})[first_number(trial)] = value
    return found
