"""The folder of a build: file names, the lock against a second build, and whole files."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.data.shards import NO_ROOM, no_room, not_written

STATE_FOLDER = ".build"  # one JSON file per finished shard, until dataset.json is written


def state_path(folder: Path, file: str) -> Path:
    """The JSON file that describes a finished shard of an unfinished build."""
    return folder / STATE_FOLDER / f"{file}.json"


@contextmanager
def only_build_in(folder: Path) -> Iterator[None]:
    """Make the folder and lock it; the kernel releases the lock when the process ends.

    Raises InputError if another build runs in the folder, or if it cannot be written.
    """
    try:
        (folder / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}).") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder}: another build is running there. Wait for it.") from None
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Write the complete file or none. Raises InputError if that fails."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in NO_ROOM:
            raise no_room(path) from error
        raise not_written(path, error) from error
