"""Paired intervals over query images, against a slow loop and against a known truth."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from fssplat.report.evidence.counts import Counts
from fssplat.report.statistics import draws as drawing
from fssplat.report.statistics.draws import Part, differences, p_value


def counts(
    query: Sequence[int], class_id: Sequence[int], inter: Sequence[float], union: Sequence[float],
    seed: Sequence[int] | None = None,
) -> Counts:  # fmt: skip
    size = len(query)
    whole = np.arange(size)
    return Counts(
        seed=np.array(seed if seed is not None else [0] * size),
        episode=whole,
        way=np.ones(size, dtype=np.int64),
        class_id=np.array(class_id),
        intersection=np.array(inter),
        union=np.array(union),
        object_pixels=np.array(union),
        image_pixels=2 * np.array(union),
        query=np.array([f"image{one}" for one in query], dtype=object),
        supports=(("s",),) * size,
        names={1: "a", 2: "b"},
        episodes="same",
    )


def drawn(generator: np.random.Generator, images: int = 12) -> list[Counts]:
    """Two rows on 40 episodes of few images, 2 classes and 2 episode seeds."""
    query = generator.integers(0, images, 40)
    class_id = 1 + np.arange(40) % 2
    seed = np.arange(40) // 20
    union = generator.integers(100, 1000, 40)
    sides = [np.round(union * generator.random(40)) for _ in range(2)]
    return [counts(query, class_id, side, union, seed) for side in sides]


def slow_miou(one: Counts, weights: np.ndarray, images: dict[str, int]) -> float:
    """Sums per class and episode seed, mean over classes, mean over seeds."""
    means = []
    for seed in (0, 1):
        ious = []
        for class_id in (1, 2):
            rows = [
                n for n in range(len(one)) if (one.seed[n], one.class_id[n]) == (seed, class_id)
            ]
            w = [weights[images[one.query[n]]] for n in rows]
            union = sum(x * one.union[n] for x, n in zip(w, rows, strict=True))
            inter = sum(x * one.intersection[n] for x, n in zip(w, rows, strict=True))
            if sum(w):
                ious.append(inter / union)
        means.append(sum(ious) / len(ious))
    return float(np.mean(means))


def test_scores_and_errors_equal_those_of_a_slow_loop() -> None:
    sides = drawn(np.random.default_rng(3))
    rows = [[Part(one, 1.0)] for one in sides]
    images = drawing.image_index(rows)
    sums = [drawing.Row(parts, images) for parts in rows]
    weights = drawing._counts(len(images), 5, 0)
    scores, errors = drawing._scores(sums, weights)
    step = 1e-6
    for number, w in enumerate(weights):
        slow = [slow_miou(one, w, images) for one in sides]
        assert scores[number] == pytest.approx(slow)
        influence = []  # the change of the difference per weight of an image
        for image in range(len(images)):
            moved = w.copy()
            moved[image] += step
            ours, theirs = (slow_miou(one, moved, images) for one in sides)
            influence.append((ours - theirs - (slow[0] - slow[1])) / step)
        error = float(np.sqrt((w * np.square(influence)).sum()))
        assert errors[number, 0, 1] == pytest.approx(error, rel=1e-3)
        assert errors[number, 0, 1] == errors[number, 1, 0]


def test_the_interval_is_the_quantile_of_the_studentised_differences() -> None:
    rows = [[Part(one, 1.0)] for one in drawn(np.random.default_rng(4))]
    images = drawing.image_index(rows)
    sums = [drawing.Row(parts, images) for parts in rows]
    scores, errors = drawing._scores(sums, drawing._counts(len(images), 50, 0))
    whole, error = drawing._scores(sums, np.ones((1, len(images))))
    difference = whole[0, 0] - whole[0, 1]
    t = np.abs(scores[:, 0] - scores[:, 1] - difference) / errors[:, 0, 1]
    half = np.quantile(t, 0.95) * error[0, 0, 1]
    found = differences(rows, draws=50)[0, 1]
    assert (found.low, found.high) == pytest.approx((difference - half, difference + half))
    assert found.clusters == len(images)


def test_a_constant_lead_has_an_interval_of_no_width() -> None:
    theirs = counts(range(6), [1] * 6, [50] * 6, [100] * 6)
    ours = counts(range(6), [1] * 6, [60] * 6, [100] * 6)
    found = differences([[Part(ours, 1.0)], [Part(theirs, 1.0)]], draws=50)[0, 1]
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    assert found.p == 0
    same = differences([[Part(ours, 1.0)], [Part(ours, 1.0)]], draws=50)[0, 1]
    assert (same.difference, same.p, same.excludes_zero) == (0, 1, False)


def test_episodes_of_one_image_are_one_cluster() -> None:
    generator = np.random.default_rng(5)
    few = drawn(generator, images=8)
    repeated = [
        counts(
            *(np.tile(values, 4) for values in (range(40), one.class_id)),
            *(np.tile(values, 4) for values in (one.intersection, one.union)),
        )
        for one in few
    ]  # every episode four times: no new information
    once = [counts(range(40), one.class_id, one.intersection, one.union) for one in few]
    widths = []
    for sides in (once, repeated):
        found = differences([[Part(one, 1.0)] for one in sides])[0, 1]
        widths.append(found.high - found.low)
    assert widths[0] == pytest.approx(widths[1])


def test_p_is_below_5_percent_if_and_only_if_the_interval_excludes_zero() -> None:
    for quantile in (1.5, 1.96, 2.3, 5.0, 40.0):
        assert p_value(quantile * 1.001, quantile) < 0.05 < p_value(quantile * 0.999, quantile)
    assert p_value(2.5, stats.t.ppf(0.975, 7)) == pytest.approx(2 * stats.t.sf(2.5, 7), rel=1e-4)


def test_fewer_than_two_images_or_rows_give_no_pair() -> None:
    one = [Part(counts([0, 0], [1, 1], [5, 5], [9, 9]), 1.0)]
    assert differences([one, one]) == {}
    assert differences([[Part(counts([0, 1], [1, 1], [5, 5], [9, 9]), 1.0)]]) == {}


def simulated(generator: np.random.Generator, images: int, classes: int) -> list[Counts]:
    """Two rows whose episodes are two per image, with objects of very different sizes."""
    class_of = np.repeat(np.arange(images) % classes, 2)
    query = np.repeat(np.arange(images), 2)
    pixels = np.repeat(1000 * generator.lognormal(0, 0.7, images), 2)
    base = np.repeat(0.1 + 0.7 * generator.beta(2, 2, images), 2)
    lead = np.repeat(0.05 + 0.1 * generator.standard_normal(images), 2)
    sides = []
    for shift in (lead, 0.0):
        noise = 0.05 * generator.standard_normal(len(query))
        union = pixels * (1 + 0.3 * generator.random(len(query)))
        share = np.clip(base + shift + noise, 0, 1)
        sides.append(counts(query, class_of, share * union, union))
    return sides


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("images", "classes"), [(40, 1), (60, 5), (200, 5), (200, 20)])
def test_intervals_cover_the_truth_in_93_to_97_percent(images: int, classes: int) -> None:
    generator = np.random.default_rng((images, classes))
    ours, theirs = (one.per_class for one in simulated(generator, 400_000, classes))
    truth = np.mean([ours[c] - theirs[c] for c in ours])
    hits = 0
    for _ in range(1000):
        rows = [[Part(one, 1.0)] for one in simulated(generator, images, classes)]
        found = differences(rows, draws=300)[0, 1]
        hits += found.low <= truth <= found.high
    print(f"{images} images, {classes} classes: {hits / 1000:.3f}")
    assert 930 <= hits <= 970
