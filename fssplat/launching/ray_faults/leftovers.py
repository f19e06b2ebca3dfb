"""Temporary folders of a launch: the next launch removes those whose launch has ended.

The owner keeps a lock on a file in its folder. The kernel releases it when the owner ends, however
it ends, so no folder of a running launch is removed.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fssplat.common.locks import FileLock, try_lock

OWNER = "fssplat.lock"
SESSIONS = "session_*_*"  # Ray's folders, one per start


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new folder for the length of the block."""
    remove_leftovers(Path(tempfile.gettempdir()), f"{prefix}*")
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with mark_as_owned(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def mark_as_owned(folder: Path) -> FileLock:
    """Keep the folder until the lock is released or this process ends. Raises OSError."""
    taken = try_lock(folder / OWNER)
    assert taken is not None, f"{folder} is owned by another process"
    return taken


def remove_leftovers(parent: Path, pattern: str) -> None:
    """Remove this user's folders whose owner has ended. Others, and unmarked ones, are kept."""
    with suppress(OSError):
        for folder in parent.glob(pattern):
            with suppress(OSError):
                _remove_if_left(folder)


def _remove_if_left(folder: Path) -> None:
    mark = folder / OWNER
    if folder.is_symlink() or not mark.is_file() or folder.stat().st_uid != os.getuid():
        return
    taken = try_lock(mark)
    if taken is not None:
        with taken:
            shutil.rmtree(folder, ignore_errors=True)
