"""Draws that depend on their name alone: the same on every machine, for any order of asking."""

import hashlib
import json
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Rows = npt.NDArray[np.int64]


def stream(*name: int | str) -> np.random.Generator:
    """A Philox stream keyed by a digest of its name.

    The functions below read it by `random` alone: numpy keeps those bits stable, not the ways in
    which it makes integers or permutations of them.
    """
    digest = hashlib.blake2b(json.dumps(name).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def pick(rng: np.random.Generator, items: Sequence[T] | npt.NDArray[np.int64]) -> T:
    """One item, each as likely."""
    item: T = items[int(rng.random() * len(items))]
    return item


def shuffled(rng: np.random.Generator, count: int) -> Rows:
    """0 .. count - 1 in a drawn order."""
    return np.argsort(rng.random(count), kind="stable")


def sample(
    rng: np.random.Generator, items: Rows, count: int, avoid: int, repeat: bool
) -> list[int]:
    """`count` items other than `avoid`; distinct unless `repeat`.

    Draws again what is taken, so `items` must hold enough: `count` others, or one with `repeat`.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        item = int(items[int(rng.random() * len(items))])
        if item != avoid and (repeat or item not in chosen):
            chosen.append(item)
    return chosen
