"""Read a whole data set again and compare tar headers, checksums and labels with its index."""

import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fssplat.common.errors import InputError, first_line
from fssplat.data.build.samples import checksum
from fssplat.data.index import Dataset
from fssplat.data.masks.labels import (
    IGNORE,
    UNREADABLE,
    Label,
    class_pixels,
    decode_image,
    decode_label,
)
from fssplat.data.places import rebuild
from fssplat.data.shards import members

SHOWN = 3  # number of problems in the message


@dataclass(frozen=True)
class Verified:
    """How much was read; everything was correct."""

    images: int
    shards: int
    bytes: int


def verify(
    root: str,
    workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verified:
    """Check every member of every shard. Raises InputError with the problems found."""
    dataset = Dataset.open(root)
    shards = range(len(dataset.info.shards))
    problems = [problem for number in shards for problem in shard_problems(dataset, number)]
    if not problems:
        done = 0
        with ThreadPoolExecutor(max(1, workers)) as pool:  # decoding releases the GIL
            for found in pool.map(lambda row: row_problems(dataset, row), range(len(dataset))):
                problems += found
                done += 1
                on_progress(done, len(dataset))
    if problems:
        raise InputError(_message(dataset, problems))
    sizes = [shard.bytes for shard in dataset.info.shards]
    return Verified(len(dataset), len(sizes), sum(sizes))


def shard_problems(dataset: Dataset, number: int) -> list[str]:
    """Differences between the members of one tar file and those in the index."""
    path = dataset.shards.path(number)
    try:
        found = members(path)
    except (tarfile.TarError, EOFError) as error:
        return [f"{path}: cut short or not a tar file ({error})"]
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]
    wanted = dataset.members(number)
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    moved = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    return [
        *[f"{path}: {name} is in the index, not in the shard" for name in missing],
        *[f"{path}: {name} is in the shard, not in the index" for name in extra],
        *[f"{path}: {name} is not where the index says" for name in moved],
    ]


def row_problems(dataset: Dataset, row: int) -> list[str]:
    """Differences between one image and its row. Only bytes with the right checksum are decoded."""
    key = dataset.keys[row]
    try:
        jpg, stored = dataset.jpeg(row), decode_label(dataset.png(row))
        if checksum(jpg, stored) != dataset.checksums[row]:
            return [f"{key}: its checksum differs from the index"]
        shape = decode_image(jpg).shape[:2]
        details = dataset.details(row)
    except UNREADABLE as error:
        return [f"{key}: cannot be decoded ({first_line(error)})"]
    size = tuple(int(side) for side in dataset.sizes[row])
    if shape != size or stored.shape != size:
        return [f"{key}: image {shape} and label {stored.shape} should be {size}"]
    if _pixels(dataset, row, stored) != _indexed(dataset, row):
        return [f"{key}: its classes or pixels differ from the index"]
    known = {
        "key": key,
        "split": str(dataset.splits[row]),
        "height": size[0],
        "width": size[1],
        "object_class": int(dataset.object_classes[row]),
        "pixels": {str(class_id): count for class_id, count in _indexed(dataset, row).items()},
    }
    wrong = [name for name, value in known.items() if details.get(name) != value]
    return [f"{key}: {', '.join(wrong)} in its JSON differs from the index"] if wrong else []


def _pixels(dataset: Dataset, row: int, stored: Label) -> dict[int, int]:
    if dataset.info.labels == "class-index":
        return class_pixels(stored)
    object_class = int(dataset.object_classes[row])
    count = int(np.count_nonzero((stored != 0) & (stored != IGNORE)))
    return {object_class: count} if count else {}


def _indexed(dataset: Dataset, row: int) -> dict[int, int]:
    return {int(c): dataset.area(row, int(c)) for c in dataset.classes_of(row)}


def _message(dataset: Dataset, problems: Sequence[str]) -> str:
    shown = "; ".join(problems[:SHOWN])
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return f"{dataset.root}: {shown}{more}. {rebuild(dataset.root, dataset.info.name)}"
