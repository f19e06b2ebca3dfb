"""Locks between processes: flock(2) on a file. The kernel releases a lock when its process ends."""

import errno
import fcntl
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from fssplat.common.errors import InputError

POLL_S = 0.1  # seconds between two tries of a lock with a time-out
MISSING = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


def locks_are_missing(error: OSError) -> bool:
    """Whether a lock failed because the file system has none, as Lustre or FUSE without flock."""
    return error.errno in MISSING


class FileLock:
    """An exclusive lock on an open file. Leave the `with` block or call `release` to end it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def release(self) -> None:
        """Release the lock, also if child processes inherited the file. Safe to call twice."""
        if not self._file.closed:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def lock(path: Path, timeout_s: float | None = None) -> FileLock:
    """Wait for the lock on a file, which is created if it is missing; None waits without limit.

    Two locks on one path exclude each other within one process, too. Raises TimeoutError.
    """
    if timeout_s is not None:
        taken = try_lock(path, timeout_s)
        if taken is None:
            raise TimeoutError(f"{path}: still locked after {timeout_s:g} s")
        return taken
    file = _opened(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise
    return FileLock(file)


def try_lock(path: Path, timeout_s: float = 0.0) -> FileLock | None:
    """The lock on a file, or None if another holder keeps it for `timeout_s` seconds."""
    file = _opened(path)
    end = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return FileLock(file)
        except BlockingIOError:
            if time.monotonic() >= end:
                file.close()
                return None
            time.sleep(POLL_S)
        except BaseException:
            file.close()
            raise


def _opened(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return path.open("ab")
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder, and a file is needed. Delete it.") from None
