"""HSNet's test episodes, draw for draw.

Its code draws with numpy's legacy generator from one seed, without loader workers, so the list
files fix the sequence. Every draw is one item of a permutation; a support that is the query is
drawn again, one that repeats another support is kept. Images are any integers that tell them apart.

PASCAL    walks through the (image, class) list and wraps around; only supports are drawn.
COCO      draws class, query, supports.
FSS-1000  walks through all images of all test classes by name (1, 10, 2, ...); supports as for
          PASCAL, but from a class's images by number.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fssplat.data.episodes.seeded_draws import Rows

PublicEpisode = tuple[int, int, tuple[int, ...]]  # class, query, supports in draw order


def walk(
    images: Rows,
    classes: Rows,
    shot: int,
    count: int,
    seed: int,
    pools: Mapping[int, Rows] | None = None,
) -> list[PublicEpisode]:
    """`count` episodes over the query lines [l], [l].

    A class's supports are drawn from its pool, in that order; without pools, from its lines. A
    pool holds an image beside each query.
    """
    rng = np.random.RandomState(seed)  # as the public code
    pools = _by_class(images, classes) if pools is None else pools
    episodes = []
    for index in range(count):
        line = index % len(images)
        query, class_id = int(images[line]), int(classes[line])
        episodes.append((class_id, query, _supports(rng, pools[class_id], query, shot)))
    return episodes


def class_first(
    images: Rows,
    classes: Rows,
    shot: int,
    count: int,
    seed: int,
    pools: Mapping[int, Rows] | None = None,
) -> list[PublicEpisode]:
    """`count` episodes; queries are drawn from a class's lines in order, supports as in `walk`."""
    rng = np.random.RandomState(seed)  # as the public code
    queries = _by_class(images, classes)
    pools = queries if pools is None else pools
    ids = sorted(queries)
    episodes = []
    for _ in range(count):
        class_id = ids[_one(rng, ids)]
        query = int(queries[class_id][_one(rng, queries[class_id])])
        episodes.append((class_id, query, _supports(rng, pools[class_id], query, shot)))
    return episodes


def _by_class(images: Rows, classes: Rows) -> dict[int, Rows]:
    return {c: images[classes == c] for c in np.unique(classes).tolist()}


def _supports(rng: np.random.RandomState, pool: Rows, query: int, shot: int) -> tuple[int, ...]:
    chosen: list[int] = []
    while len(chosen) < shot:
        image = int(pool[_one(rng, pool)])
        if image != query:
            chosen.append(image)
    return tuple(chosen)


def _one(rng: np.random.RandomState, items: Sequence[int] | Rows) -> int:
    """What `choice(items, 1, replace=False)` consumes: the head of a whole permutation."""
    return int(rng.permutation(len(items))[0])
