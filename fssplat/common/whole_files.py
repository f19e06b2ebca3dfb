"""Files that are whole or absent: written under a temporary name beside theirs, then renamed."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

SUFFIX = ".tmp"  # of every temporary name, so that *.tar and the like do not match one


def temporary_name(path: Path) -> Path:
    """A hidden name in the same folder that no other writer uses, on any machine."""
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}{SUFFIX}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that gets the file's name at the end of the block; deleted on an error.

    Nothing is flushed to disk: after a power failure the file can be empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary)`, flush, rename. The file also survives a power failure."""
    with replacing(path) as temporary:
        write(temporary)
        flush_to_disk(temporary)
    flush_to_disk(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    write_whole(path, lambda temporary: _write_bytes(temporary, content))


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def flush_to_disk(path: Path) -> None:
    """Block until a file's bytes, or a folder's names, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_unfinished(path: Path) -> None:
    """Delete the temporary files of writers of `path` that were killed."""
    for left in path.parent.glob(f".{path.name}.*{SUFFIX}"):
        left.unlink(missing_ok=True)


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
