"""Data sets in a bucket: each shard is downloaded once per node, when it is first read.

FSSPLAT_CACHE     the folder on this node (default ~/.cache/fssplat)
FSSPLAT_CACHE_GB  how many GiB shards may fill (default 100); the least recently used are removed
"""

import mmap
import os
from pathlib import Path
from typing import Any

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError
from fssplat.common.locks import lock
from fssplat.common.passwords import hidden
from fssplat.common.remote_files import filesystem
from fssplat.common.whole_files import replacing
from fssplat.data.shards import Shard, ShardFolder


def is_remote(root: str) -> bool:
    return "://" in root


class Bucket:
    """A data set's folder at an fsspec address; files are fetched only on request."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.filesystem, self.path = _connect(root)

    def read(self, name: str) -> bytes:
        try:
            return bytes(self.filesystem.cat_file(f"{self.path}/{name}"))
        except FileNotFoundError:
            raise
        except Exception as error:  # each protocol raises its own errors
            raise InputError(
                f"{hidden(self.root)}: cannot be read ({hidden(str(error))}). "
                "Check the address and this node's credentials."
            ) from error

    def fetched(self, name: str, folder: Path, remedy: str) -> Path:
        """Download a file into a folder of this node; return its path."""
        size = _remote_size(self.filesystem, f"{self.path}/{name}", remedy)
        _fetch(self.filesystem, f"{self.path}/{name}", folder / name, size)
        return folder / name


def cache_folder() -> Path:
    chosen = os.environ.get("FSSPLAT_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "fssplat"


def cache_limit() -> int:
    """Bytes that cached shards may fill. Raises InputError for a wrong FSSPLAT_CACHE_GB."""
    text = os.environ.get("FSSPLAT_CACHE_GB", "100")
    try:
        return int(float(text) * 2**30)
    except ValueError:
        raise InputError(f"FSSPLAT_CACHE_GB={text}: give a number of GiB, e.g. 50.") from None


class CachedShards(ShardFolder):
    """Shards of a bucket, each downloaded once per node under a lock."""

    def __init__(self, root: str, folder: Path, shards: tuple[Shard, ...], remedy: str) -> None:
        super().__init__(folder, shards)
        self.root = root
        self.remedy = remedy

    def path(self, shard: int) -> Path:
        local = self.folder / self.shards[shard].file
        size = self.shards[shard].bytes
        with lock(_lock_file(local)):
            if not _has_size(local, size):
                filesystem, path = _connect(self.root)
                remote = f"{path}/{local.name}"
                found = _remote_size(filesystem, remote, self.remedy)
                if found != size:
                    raise InputError(
                        f"{self.root}/{local.name}: the shard has {found:,} bytes, dataset.json "
                        f"says {size:,}: cut short, or not the shard that was indexed. "
                        f"{self.remedy}"
                    )
                _make_room(size, keep=local)
                _fetch(filesystem, remote, local, size)
            os.utime(local)  # mark as just used
        return local

    def _map(self, shard: int) -> mmap.mmap:
        """As for a local folder, but unmap old shards: a mapped file occupies disk when removed."""
        mapped = self._maps.pop(shard, None) or super()._map(shard)
        self._maps[shard] = mapped  # at the end: the first entry is the least recently used
        while sum(map(len, self._maps.values())) > cache_limit() and len(self._maps) > 1:
            del self._maps[next(iter(self._maps))]
        return mapped


def _connect(root: str) -> tuple[Any, str]:
    try:
        return filesystem(root)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{hidden(root)}: {hidden(str(error))}. Give a folder, or an address that fsspec reads."
        ) from error
    except OSError as error:
        raise InputError(
            f"{hidden(root)}: does not answer ({hidden(str(error))}). Check the address."
        ) from error


def _remote_size(filesystem: Any, path: str, remedy: str) -> int:
    try:
        return int(filesystem.info(path)["size"])
    except FileNotFoundError:
        raise InputError(f"{path}: this file is missing in the bucket. {remedy}") from None


def _has_size(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def _fetch(filesystem: Any, remote: str, local: Path, size: int) -> None:
    """Download under a temporary name, then rename. Does nothing if the file is there already."""
    if _has_size(local, size):
        return
    try:
        with replacing(local) as temporary:
            filesystem.get_file(remote, str(temporary))
    except OSError as error:
        if is_disk_full(error):
            raise InputError(
                f"{local.parent}: the disk is full. Set FSSPLAT_CACHE to a larger disk or lower "
                f"FSSPLAT_CACHE_GB."
            ) from error
        raise


def _make_room(size: int, keep: Path) -> None:
    """Remove the least recently used shards until `size` more bytes fit under the limit."""
    root = cache_folder()
    with lock(_lock_file(root / "eviction")):
        cached = [path for path in root.glob("*/*.tar") if path != keep]
        states = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in cached)
        excess = sum(bytes_ for _, bytes_, _ in states) + size - cache_limit()
        for _, bytes_, path in states:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= bytes_


def _lock_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")
