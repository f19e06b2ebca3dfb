"""Which image goes into which shard.

The plan depends on the source alone, so any number of workers writes the same bytes.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError
from fssplat.data.index import FORMAT_VERSION, SPLITS
from fssplat.data.shards import digest_of
from fssplat.data.sources.record import Record, Source

SHARD_SAMPLES = 1000
SHARD_BYTES = 256 * 2**20
LABEL_ALLOWANCE = 32 * 2**10  # bytes set aside for a label, its JSON and the tar headers

FileState = Callable[[Path], tuple[int, int]]


@dataclass(frozen=True)
class PlannedShard:
    """One shard to write. `digest` changes with anything that its bytes depend on."""

    folder: Path
    file: str
    records: tuple[Record, ...]
    classes: int
    binary: bool
    skip_bad: bool
    digest: str


def plan_shards(
    content: Source, folder: Path, shard_samples: int, skip_bad: bool
) -> tuple[PlannedShard, ...]:
    """The shards in order: each of one split, at most `shard_samples` images and SHARD_BYTES.

    Raises InputError if the source has no image, or two images with the same key.
    """
    if not content.records:
        raise InputError(f"{content.name}: the source has no images. Check --source.")
    ordered = sorted(content.records, key=lambda record: (SPLITS.index(record.split), record.key))
    _check_unique(ordered)
    state = lru_cache(maxsize=4096)(file_state)
    shards: list[PlannedShard] = []
    for split in SPLITS:
        of_split = [record for record in ordered if record.split == split]
        for number, group in enumerate(_groups(of_split, shard_samples, state)):
            shards.append(
                PlannedShard(
                    folder=folder,
                    file=f"{split}-{number:06d}.tar",
                    records=tuple(group),
                    classes=len(content.classes),
                    binary=content.labels == "binary",
                    skip_bad=skip_bad,
                    digest=_shard_digest(content, group, state),
                )
            )
    return tuple(shards)


def plan_digest(plan: tuple[PlannedShard, ...]) -> str:
    """Changes with anything that the bytes of any shard depend on."""
    return digest_of(shard.digest.encode() for shard in plan)


def file_state(path: Path) -> tuple[int, int]:
    """(bytes, time of last change in ns); (-1, 0) for a missing file."""
    try:
        state = path.stat()
    except OSError:
        return -1, 0
    return state.st_size, state.st_mtime_ns


def _check_unique(records: Sequence[Record]) -> None:
    first: dict[str, Path] = {}
    for record in records:
        if record.key not in first:
            first[record.key] = record.image
        elif first[record.key] == record.image:
            raise InputError(f"{record.image}: the source lists this image twice. Keep one entry.")
        else:
            raise InputError(
                f"{record.image}: {first[record.key]} has the key {record.key!r} too. Rename one."
            )


def _groups(records: Sequence[Record], most: int, state: FileState) -> Iterator[list[Record]]:
    group: list[Record] = []
    total = 0
    for record in records:
        size = max(state(record.image)[0], 0) + LABEL_ALLOWANCE
        if group and (len(group) == most or total + size > SHARD_BYTES):
            yield group
            group, total = [], 0
        group.append(record)
        total += size
    if group:
        yield group


def _shard_digest(content: Source, records: Sequence[Record], state: FileState) -> str:
    states = [_record_state(record, state) for record in records]
    head = [FORMAT_VERSION, content.name, content.classes, content.labels]
    head += [content.options] if content.options else []
    return digest_of([json.dumps([head, states]).encode()])


def _record_state(record: Record, state: FileState) -> list[Any]:
    files = (record.image, *record.label.files)
    return [record.key, record.object_class, [(path.name, *state(path)) for path in files]]
