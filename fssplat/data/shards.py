"""Shards: plain WebDataset tar files, written once and read by member offset.

The bytes of a tar member follow, uncompressed, a 512-byte header that starts with its name. So a
member is a slice of the mapped file, and its name is checked before the slice is used.
"""

import errno
import hashlib
import mmap
import os
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError
from fssplat.common.whole_files import flush_to_disk, remove_unfinished, replacing

os.environ.setdefault(
    "WDS_SECURE", "1"
)  # webdataset then runs no shell command from an address and reads no pickles

HEADER = 512  # bytes of a tar header; members are padded to a multiple


@dataclass(frozen=True)
class Sample:
    """One image with its label as stored in a shard: key.jpg, key.png, key.json."""

    key: str
    jpg: bytes
    png: bytes
    json: bytes


@dataclass(frozen=True)
class Member:
    """Position of a file inside its shard, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class Shard:
    """An entry of dataset.json: one shard."""

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
    """Member name -> position, from the tar's headers alone."""
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
    """SHA-256 of the concatenated parts, cut to 32 hex characters."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()[:32]


class ShardFolder:
    """Shards in a local folder; a shard is memory-mapped at its first use."""

    def __init__(self, folder: Path, shards: tuple[Shard, ...]) -> None:
        self.folder = folder
        self.shards = shards
        self._maps: dict[int, mmap.mmap] = {}

    def check(self, remedy: str) -> None:
        """Raises InputError if a shard is missing or has another length; one stat per shard."""
        for shard in self.shards:
            path = self.folder / shard.file
            try:
                state = path.stat()
                if stat.S_ISDIR(state.st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            except FileNotFoundError:
                raise InputError(f"{path}: this shard is missing. {remedy}") from None
            except OSError as error:
                raise _unreadable(path, error) from error
            if state.st_size != shard.bytes:
                raise InputError(
                    f"{path}: the shard has {state.st_size:,} bytes, dataset.json says "
                    f"{shard.bytes:,}: cut short, or not the shard that was indexed. {remedy}"
                )

    def member(self, shard: int, name: str, offset: int, size: int) -> memoryview:
        """One member as a view of the mapped file, without a copy.

        Raises InputError if the tar has another member there.
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
        """The local file of a shard."""
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
                    f"{path}: this shard was removed while the data set was in use. Put it back or "
                    f"build the data set again, then repeat the command."
                ) from None
            except OSError as error:
                raise _unreadable(path, error) from error
            self._maps[shard] = mapped
        return mapped
