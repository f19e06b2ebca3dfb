"""Shards: plain WebDataset tar files, written once and read by member offset.

A tar member's bytes lie uncompressed behind a 512-byte header that starts with its name. So a
member is a slice of the mapped file, and the name in front of it proves that the slice is right.
"""

import hashlib
import mmap
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError
from fssplat.common.whole_files import flush_to_disk, remove_unfinished, replacing

os.environ.setdefault("WDS_SECURE", "1")  # no shell in a shard's address, no pickles inside

HEADER = 512  # bytes of a tar header, and the unit that members are padded to


@dataclass(frozen=True)
class Sample:
    """One image with its label as the shard keeps them: key.jpg, key.png, key.json."""

    key: str
    jpg: bytes
    png: bytes
    json: bytes


@dataclass(frozen=True)
class Member:
    """Where a file's bytes lie inside its shard."""

    offset: int
    size: int


@dataclass(frozen=True)
class Shard:
    """A shard as dataset.json lists it."""

    file: str
    bytes: int
    samples: int


def write_shard(path: Path, samples: Iterable[Sample]) -> dict[str, Member]:
    """Write a shard under a temporary name, then give it its own; member name -> place.

    The bytes depend on the samples alone. Raises InputError when the disk is full or cannot be
    written; then neither name is left behind.
    """
    remove_unfinished(path)
    try:
        with replacing(path) as temporary:
            with temporary.open("wb") as stream:
                _write_tar(stream, samples)
            flush_to_disk(temporary)
            places = members(temporary)
    except OSError as error:
        raise (no_room(path) if is_disk_full(error) else not_written(path, error)) from error
    return places


def _write_tar(stream: object, samples: Iterable[Sample]) -> None:
    from webdataset.writer import TarWriter

    with TarWriter(stream, encoder=False, mtime=0) as tar:
        for sample in samples:
            tar.write(
                {
                    "__key__": sample.key,
                    "jpg": sample.jpg,
                    "png": sample.png,
                    "json": sample.json,
                }
            )


def members(path: Path) -> dict[str, Member]:
    """Member name -> place, from the tar's headers alone."""
    with tarfile.open(path) as tar:
        return {item.name: Member(item.offset_data, item.size) for item in tar}


def no_room(path: Path) -> InputError:
    return InputError(
        f"{path}: the disk is full. Free some space or choose another --out, then run the same "
        f"command again: finished shards are kept."
    )


def not_written(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror}). Check its permissions or choose another "
        f"--out."
    )


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: this shard cannot be read ({error.strerror}). Check its permissions and its disk."
    )


def digest_of(parts: Iterable[bytes]) -> str:
    """SHA-256 of the parts in a row, cut to 32 hex characters."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()[:32]


class ShardFolder:
    """Members of the shards in a local folder, mapped at first use."""

    def __init__(self, folder: Path, shards: tuple[Shard, ...]) -> None:
        self.folder = folder
        self.shards = shards
        self._maps: dict[int, mmap.mmap] = {}

    def check(self, remedy: str) -> None:
        """Every shard is there and as long as dataset.json says; costs one stat per shard."""
        for shard in self.shards:
            path = self.folder / shard.file
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                raise InputError(f"{path}: this shard is missing. {remedy}") from None
            except OSError as error:
                raise _unreadable(path, error) from error
            if size != shard.bytes:
                raise InputError(
                    f"{path}: the shard has {size:,} bytes, dataset.json says {shard.bytes:,}: "
                    f"cut short, or not the shard that was indexed. {remedy}"
                )

    def member(self, shard: int, name: str, offset: int, size: int) -> memoryview:
        """One member as a view of the mapped file: nothing is copied before a decoder reads it.

        Raises InputError where the tar holds another one there.
        """
        data = self._map(shard)
        start = offset - HEADER
        header = data[start : start + len(name) + 1]
        if header != name.encode() + b"\0" or offset + size > len(data):
            raise InputError(
                f"{self.folder / self.shards[shard].file}: {name} is not at byte {offset:,}: the "
                f"index does not match its shards. Copy index.parquet and the shards from one "
                f"build, or build again with --overwrite."
            )
        return memoryview(data)[offset : offset + size]

    def path(self, shard: int) -> Path:
        """A local file with this shard's bytes."""
        return self.folder / self.shards[shard].file

    def _map(self, shard: int) -> mmap.mmap:
        mapped = self._maps.get(shard)
        if mapped is None:
            path = self.path(shard)
            try:
                with path.open("rb") as stream:
                    mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            except FileNotFoundError:
                raise InputError(
                    f"{path}: this shard went away while the data set was in use. Start again once "
                    f"it is back or built anew."
                ) from None
            except OSError as error:
                raise _unreadable(path, error) from error
            self._maps[shard] = mapped
        return mapped
