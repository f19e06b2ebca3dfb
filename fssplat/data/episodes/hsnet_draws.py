"""HSNet's test episodes, draw for draw.

HSNet's code draws with numpy's legacy generator from one seed, without loader workers, so the list
files determine the sequence. Every draw takes one item of a permutation. A support equal to the
query is drawn again; a support equal to another support is kept. Images are distinct integers.

PASCAL    takes queries in the order of the (image, class) list, again and again; draws supports.
COCO      draws class, query, supports.
FSS-1000  takes all images of all test classes in the order of their names (1, 10, 2, ...); draws
          supports as for PASCAL, but from a class's images sorted by number.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fssplat.data.episodes.seeded_draws import Rows

PublicEpisode = tuple[int, int, tuple[int, ...]]  # class, query, supports in draw order


def in_list_order(
    images: Rows,
    classes: Rows,
    shot: int,
    count: int,
    seed: int,
    pools: Mapping[int, Rows] | None = None,
) -> list[PublicEpisode]:
    """`count` episodes whose queries are `images` [q] and `classes` [q], in order.

    A class's supports are drawn from its pool (order matters), or without pools from the images of
    its queries. A pool needs at least one image that is not the query.
    """
    rng = np.random.RandomState(seed)  # as the public code
    pools = _by_class(images, classes) if pools is None else pools
    episodes = []
    for index in range(count):
        place = index % len(images)
        query, class_id = int(images[place]), int(classes[place])
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
    """`count` episodes; first the class is drawn, then its query, then supports as above."""
    rng = np.random.RandomState(seed)  # as the public code
    queries = _by_class(images, classes)
    pools = queries if pools is None else pools
    ids = sorted(queries)
    episodes = []
    for _ in range(count):
        class_id = ids[_draw_index(rng, ids)]
        query = int(queries[class_id][_draw_index(rng, queries[class_id])])
        episodes.append((class_id, query, _supports(rng, pools[class_id], query, shot)))
    return episodes


def _by_class(images: Rows, classes: Rows) -> dict[int, Rows]:
    return {c: images[classes == c] for c in np.unique(classes).tolist()}


def _supports(rng: np.random.RandomState, pool: Rows, query: int, shot: int) -> tuple[int, ...]:
    chosen: list[int] = []
    while len(chosen) < shot:
        image = int(pool[_draw_index(rng, pool)])
        if image != query:
            chosen.append(image)
    return tuple(chosen)


def _draw_index(rng: np.random.RandomState, items: Sequence[int] | Rows) -> int:
    """The index that `choice(items, 1, replace=False)` takes: the first of a permutation."""
    return int(rng.permutation(len(items))[0])
