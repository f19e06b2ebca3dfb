"""Many comparisons, against numbers by hand and from the papers."""

import numpy as np
import pytest

from fssplat.report.statistics.multiple import holm, ranking


def test_holm_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    # sorted: d 0.005 * 4, a 0.01 * 3, c 0.03 * 2, b 0.04 * 1 -> at least c's
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert list(found) == ["a", "b", "c", "d"]


def test_holm_never_exceeds_one() -> None:
    assert holm({1: 0.9, 2: 0.8}) == {1: 1.0, 2: 1.0}


def test_the_critical_difference_of_demsar() -> None:
    """His example: 4 classifiers, 14 data sets: CD = 2.569 * sqrt(4 * 5 / (6 * 14)) = 1.25."""
    scores = np.random.default_rng(0).random((4, 14))
    found = ranking(scores.tolist())
    assert found is not None
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert sum(found.ranks) == pytest.approx(10)  # 1 + 2 + 3 + 4


def test_ranks_count_from_the_best_and_ties_share() -> None:
    found = ranking([[0.9, 0.8, 0.7], [0.5, 0.8, 0.1], [0.1, 0.2, 0.3]])
    assert found is not None
    assert found.ranks == pytest.approx((3.5 / 3, 6.5 / 3, 8 / 3))


def test_groups_are_the_longest_runs_within_the_critical_difference() -> None:
    scores = [[k + 0.01 * n for n in range(10)] for k in (4, 3, 2, 1)]
    found = ranking(scores)
    assert found is not None
    assert found.ranks == (1, 2, 3, 4)
    assert found.critical == pytest.approx(1.483, abs=0.005)  # 2.569 * sqrt(20 / 60)
    assert found.groups() == [(0, 1), (1, 2), (2, 3)]


def test_two_methods_have_no_ranking() -> None:
    assert ranking([[1, 2], [2, 1]]) is None
