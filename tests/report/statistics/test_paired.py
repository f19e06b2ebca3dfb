"""The paired interval, against numbers computed by hand or by a slow loop."""

from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fssplat.engine.scoring.rows import SCHEMA
from fssplat.report.statistics.paired import (
    Episodes,
    Pair,
    draw_counts,
    miou,
    paired_interval,
    read_episodes,
)


def episodes(shares: list[float], classes: list[int] | None = None) -> Episodes:
    """One-way episodes of 100 pixels of union each."""
    count = len(shares)
    return Episodes(
        names=tuple((f"image{n}",) for n in range(count)),
        episode=np.arange(count),
        class_id=np.array(classes or [1] * count),
        intersection=np.array([100 * share for share in shares]),
        union=np.full(count, 100.0),
    )


def test_pixels_are_summed_per_class_before_they_are_divided() -> None:
    found = Episodes(
        names=(("a",), ("b",), ("c",)),
        episode=np.array([0, 1, 2]),
        class_id=np.array([1, 1, 2]),
        intersection=np.array([10.0, 0.0, 5.0]),
        union=np.array([10.0, 90.0, 10.0]),
    )
    once = np.ones((1, 3), dtype=np.float32)
    assert miou(found, once)[0] == pytest.approx((10 / 100 + 5 / 10) / 2)
    assert miou(found, once, "zero", 5)[0] == pytest.approx((10 / 100 + 5 / 10) / 5)


def test_a_class_that_was_not_drawn_is_left_out_or_counts_as_zero() -> None:
    found = episodes([0.5, 1.0], [1, 2])
    only_first = np.array([[2.0, 0.0]], dtype=np.float32)
    assert miou(found, only_first)[0] == pytest.approx(0.5)
    assert miou(found, only_first, "zero", 2)[0] == pytest.approx(0.25)


def test_draws_repeat_and_keep_the_number_of_episodes() -> None:
    first, second = draw_counts(7, 50, 3), draw_counts.__wrapped__(7, 50, 3)
    assert (first == second).all()
    assert (first.sum(axis=1) == 7).all()
    assert (first[0] == 1).all()


def test_a_constant_lead_has_an_interval_of_no_width() -> None:
    ours, theirs = episodes([0.6, 0.7, 0.8]), episodes([0.5, 0.6, 0.7])
    interval = paired_interval([Pair(0, {0: ours}, {0: theirs})])
    assert interval is not None
    assert interval.difference == pytest.approx(0.1)
    assert interval.low == pytest.approx(0.1)
    assert interval.high == pytest.approx(0.1)


def test_the_interval_equals_that_of_a_slow_loop_over_the_same_draws() -> None:
    generator = np.random.default_rng(1)
    ours, theirs = (episodes(list(generator.random(20)), [1, 2] * 10) for _ in range(2))
    interval = paired_interval([Pair(0, {0: ours}, {0: theirs})], resamples=200)
    differences = []
    for counts in draw_counts(20, 200, 0)[1:]:
        means = []
        for side in (ours, theirs):
            per_class = []
            for class_id in (1, 2):
                rows = [n for n in range(20) if side.class_id[n] == class_id]
                inter = sum(counts[n] * side.intersection[n] for n in rows)
                union = sum(counts[n] * side.union[n] for n in rows)
                per_class.append(inter / union)
            means.append(sum(per_class) / 2)
        differences.append(means[0] - means[1])
    assert interval is not None
    assert interval.low == pytest.approx(np.quantile(differences, 0.025))
    assert interval.high == pytest.approx(np.quantile(differences, 0.975))


def test_a_95_percent_interval_contains_the_true_difference_about_as_often() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        base = generator.random(80) * 0.5
        ours = episodes(list(base + 0.1 + 0.05 * generator.standard_normal(80)))
        theirs = episodes(list(base))
        interval = paired_interval([Pair(0, {0: ours}, {0: theirs})], resamples=200)
        assert interval is not None
        hits += interval.low <= 0.1 <= interval.high
    assert 52 <= hits <= 60


def test_different_episodes_cannot_be_paired() -> None:
    ours = episodes([0.5])
    theirs = Episodes((("other",),), *(getattr(ours, n) for n in list(vars(ours))[1:]))
    assert paired_interval([Pair(0, {0: ours}, {0: theirs})]) is None


def test_folds_and_seeds_have_equal_weights() -> None:
    high, low, same = episodes([0.9]), episodes([0.5]), episodes([0.7])
    folds = [{0: high, 1: same}, {0: same, 1: same}]
    interval = paired_interval([Pair(n, fold, {0: low, 1: same}) for n, fold in enumerate(folds)])
    assert interval is not None
    assert interval.difference == pytest.approx((0.4 / 2 + (0.2 + 0.0) / 2) / 2)


def test_more_training_seeds_of_the_same_episodes_do_not_narrow_the_interval() -> None:
    generator = np.random.default_rng(2)
    ours, theirs = (episodes(list(generator.random(30))) for _ in range(2))
    pair = Pair(0, {0: ours}, {0: theirs})
    assert paired_interval([pair] * 9) == paired_interval([pair])


def test_folds_have_equal_weights_however_many_training_seeds_are_finished() -> None:
    high, low = episodes([0.8]), episodes([0.7])
    ahead, even = Pair(0, {0: high}, {0: low}), Pair(1, {0: low}, {0: low})
    interval = paired_interval([ahead, ahead, ahead, even])
    assert interval is not None
    assert interval.difference == pytest.approx((0.1 + 0.0) / 2)


def test_each_fold_has_its_own_number_of_classes() -> None:
    pairs = [Pair(n, {0: episodes([0.6])}, {0: episodes([0.0])}, n) for n in (2, 3)]
    interval = paired_interval(pairs, "zero")
    assert interval is not None
    assert interval.difference == pytest.approx((0.6 / 2 + 0.6 / 3) / 2)


def test_a_trials_file_is_read_at_one_scored_size() -> None:
    base = {field.name: 0 if pa.types.is_integer(field.type) else "" for field in SCHEMA}
    rows = [
        base | {"seed": seed, "episode": 0, "score": score, "way": way, "class_id": way,
                "query": "q", "supports": ["s"], "intersection": 1, "union": 2}
        for seed in (0, 1) for score in ("original", "473") for way in (1, 2)
    ]  # fmt: skip
    stream = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), stream)
    found = read_episodes(stream.getvalue(), "473")
    assert sorted(found) == [0, 1]
    assert found[0].names == (("q", "s", 1, 2),)
    assert found[0].episode.tolist() == [0, 0]
    assert found[0].class_id.tolist() == [1, 2]
