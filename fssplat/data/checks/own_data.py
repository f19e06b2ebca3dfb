"""Remarks on a data set of your own: what makes its numbers wrong or its launch fail."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image

from fssplat.data.folds import novel_split
from fssplat.data.index import Dataset
from fssplat.experiment.protocols import PROTOCOLS

NEAR = 4  # differing bits of 64, at most, of two pictures that look alike
SHOWN = 3  # pairs or names in a remark
SHOTS = (1, 5)
Progress = Callable[[int, int], None]


def remarks(dataset: Dataset, workers: int, progress: Progress) -> Iterator[str]:
    """One line for each thing to look at; every image is read once.

    Empty labels, classes in every image, classes with too few test images, and images of training
    and test that look alike: such a pair makes a score too high.
    """
    yield from _empty(dataset)
    yield from _everywhere(dataset)
    yield from _too_few(dataset)
    yield from _alike(dataset, workers, progress)


def _empty(dataset: Dataset) -> Iterator[str]:
    empty = [dataset.keys[row] for row in range(len(dataset)) if not len(dataset.classes_of(row))]
    if len(empty) == len(dataset):
        yield "every label is empty: no class is marked in any image"
    elif empty:
        yield f"{len(empty)} of {len(dataset)} images show no class: {_named(empty)}"


def _everywhere(dataset: Dataset) -> Iterator[str]:
    for class_id, name in enumerate(dataset.info.classes, start=1):
        shown = sum(len(dataset.rows_of(class_id, split)) for split in dataset.info.counts)
        if shown == len(dataset) and len(dataset.info.classes) > 1:
            yield (
                f"{name} is in every image: it is background of all other classes, and no image is "
                "left without it"
            )


def _too_few(dataset: Dataset) -> Iterator[str]:
    area, split = PROTOCOLS["fssplat"].min_area, novel_split(dataset.info)
    for shot in SHOTS:
        short = [
            f"{name} ({count})"
            for class_id, name in enumerate(dataset.info.classes, start=1)
            if (count := len(dataset.rows_of(class_id, split, area))) <= shot
        ]
        if short:
            yield (
                f"{shot}-shot needs {shot + 1} test images of a class with {area:,} pixels of it; "
                f"fewer have {_named(short)}. Lower protocol.min_area, or set "
                "protocol.short_classes: drop"
            )


def _alike(dataset: Dataset, workers: int, progress: Progress) -> Iterator[str]:
    hashes = np.zeros(len(dataset), dtype=np.uint64)
    with ThreadPoolExecutor(workers) as pool:
        every = pool.map(lambda row: difference_hash(dataset.jpeg(row)), range(len(dataset)))
        for row, found in enumerate(every):
            hashes[row] = found
            progress(row + 1, len(dataset))
    train = np.flatnonzero(dataset.splits == "train")
    other = np.flatnonzero(dataset.splits != "train")
    pairs = []
    for row in other.tolist():
        distance = np.bitwise_count(hashes[train] ^ hashes[row])
        pairs += [(dataset.keys[near], dataset.keys[row]) for near in train[distance <= NEAR]]
    if pairs:
        shown = [f"{near} and {key}" for near, key in pairs]
        yield (
            f"{len(pairs)} pairs of a training and a test image look alike, so that a score is too "
            f"high: {_named(shown)}"
        )


def difference_hash(jpeg: bytes) -> int:
    """64 bits: whether each of 8 x 8 cells is brighter than its right neighbour.

    Small changes of size, colour or compression change few bits.
    """
    with Image.open(io.BytesIO(jpeg)) as picture:
        picture.draft("L", (64, 64))  # decodes a fraction of the pixels
        small = picture.convert("L").resize((9, 8), Image.Resampling.BOX)
    values: npt.NDArray[np.int16] = np.asarray(small, dtype=np.int16)
    bits = (values[:, :-1] > values[:, 1:]).ravel()
    return int(np.packbits(bits).view(">u8")[0])


def _named(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
