"""Intervals over classes are those of Student's distribution."""

import numpy as np
import pytest
from scipy import stats

from fssplat.report.statistics.classes import class_interval


def test_one_fold_gives_the_textbook_interval() -> None:
    values = [0.1, 0.3, 0.2, 0.0, 0.4]
    found = class_interval([dict(enumerate(values))])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.classes == 5


def test_folds_have_equal_weights() -> None:
    found = class_interval([{1: 0.1, 2: 0.1}, {3: 0.3}])
    assert found is not None
    assert (found.low + found.high) / 2 == pytest.approx(0.2)  # (0.1 + 0.3) / 2


def test_one_class_has_no_interval() -> None:
    assert class_interval([{1: 0.1}]) is None


@pytest.mark.parametrize("folds", [1, 4])  # 5 and 20 classes
def test_intervals_of_few_classes_cover_the_truth_in_93_to_97_percent(folds: int) -> None:
    generator = np.random.default_rng(folds)
    hits = 0
    for _ in range(1000):
        values = [dict(enumerate(generator.normal(0.05, 0.1, 5))) for _ in range(folds)]
        found = class_interval(values)
        assert found is not None
        hits += found.low <= 0.05 <= found.high
    assert 930 <= hits <= 970
