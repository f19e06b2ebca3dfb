"""t-SNE keeps groups together, and the same vectors give the same points."""

import numpy as np

from fssplat.report.sections.inside.projection import perplexity, tsne


def groups() -> np.ndarray:
    """Two groups of 12 vectors around two directions; lengths differ by a factor of 100."""
    draw = np.random.default_rng(0)
    centres = np.repeat(np.eye(8)[:2], 12, axis=0)
    lengths = draw.uniform(0.1, 10, (24, 1))
    return ((centres + 0.05 * draw.standard_normal((24, 8))) * lengths).astype(np.float32)


def test_directions_are_grouped_whatever_their_lengths() -> None:
    points = tsne(groups())
    first, second = points[:12], points[12:]
    between = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    within = max(np.linalg.norm(part - part.mean(axis=0), axis=1).max() for part in (first, second))
    assert between > within


def test_the_same_vectors_give_the_same_points() -> None:
    assert np.array_equal(tsne(groups()), tsne(groups()))


def test_perplexity_is_30_or_a_third_of_the_points() -> None:
    assert perplexity(200) == 30
    assert perplexity(31) == 10
    assert perplexity(5) < 5
