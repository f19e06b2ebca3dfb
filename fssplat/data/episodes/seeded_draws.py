"""Random draws that depend only on a name: the same on every machine and in any order."""

import hashlib
import json
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Rows = npt.NDArray[np.int64]


def stream(*name: int | str) -> np.random.Generator:
    """A Philox generator whose key is a digest of the name.

    The functions below call only `random` on it: numpy guarantees the same bits in every version,
    but not the same integers or permutations.
    """
    digest = hashlib.blake2b(json.dumps(name).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def pick(rng: np.random.Generator, items: Sequence[T] | npt.NDArray[np.int64]) -> T:
    """One item; all are equally likely."""
    item: T = items[int(rng.random() * len(items))]
    return item


def shuffled(rng: np.random.Generator, count: int) -> Rows:
    """0 .. count - 1 in random order."""
    return np.argsort(rng.random(count), kind="stable")


def sample(
    rng: np.random.Generator, items: Rows, count: int, avoid: int, repeat: bool
) -> list[int]:
    """`count` items other than `avoid`; distinct unless `repeat`.

    A rejected item is drawn again, so `items` needs `count` distinct others, or one with `repeat`.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        item = int(items[int(rng.random() * len(items))])
        if item != avoid and (repeat or item not in chosen):
            chosen.append(item)
    return chosen
