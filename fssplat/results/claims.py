"""Claims: one process at a time works on a name in the store, such as a job.

On a local disk a claim is a file lock, which the kernel releases when its process ends. On shared
disks, on file systems without locks and on object stores the holder also counts up in a file: if
the counter does not change for `EXPIRY_S` seconds, the claim is dead. The observer measures this
with its own monotonic clock, so the clocks of two machines are never compared.
"""

import contextlib
import json
import os
import socket
import threading
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from fssplat.common.json_files import all_strings, is_count, json_object
from fssplat.common.locks import FileLock, locks_are_missing, try_lock
from fssplat.results.files import Files, LocalFiles

BEAT_S = 10.0  # seconds between two counts of a holder
EXPIRY_S = 60.0  # a claim is dead if its counter does not change for this long
SETTLE_S = 2.0  # wait after a takeover: another process may take over the same dead claim
OWN_S = 25.0  # as EXPIRY_S, for a claim of the same launch: its worker was reported dead
LARGEST_PID = 2**22  # of Linux


class Claim:
    """The right to work on one name in a store, until `release` or the end of the process.

    `lost` is set if another process has taken the claim over, e.g. after a minute without network.
    """

    def __init__(
        self, files: Files, name: str, owner: str, lock: FileLock | None, token: str = ""
    ) -> None:
        self._files, self._name, self._owner, self._lock = files, name, owner, lock
        self._token = token or uuid4().hex
        self._beats = 0
        self._done = threading.Event()
        self.lost = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Release the claim. Safe to call twice."""
        if self._done.is_set():
            return
        self._done.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if not self._taken_over():
                self._files.delete(self._name)
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _beat(self) -> None:
        beat = {
            "owner": self._owner,
            "host": host(),
            "pid": os.getpid(),
            "token": self._token,
            "beat": self._beats,
        }
        self._files.write(self._name, json.dumps(beat).encode())
        self._beats += 1

    def _keep_beating(self) -> None:
        while not self.lost.is_set() and not self._done.wait(BEAT_S):
            with contextlib.suppress(Exception):  # a missed count must not end the job
                if self._taken_over():
                    self.lost.set()
                else:
                    self._beat()

    def _taken_over(self) -> bool:
        """Whether the store has another process's claim on the name."""
        found = _read(self._files, self._name)
        return found is not None and found.get("token") != self._token


def claim(files: Files, name: str, owner: str, wait_s: float | None = None) -> Claim | None:
    """The claim on `name`, or None if another process has it.

    If the file of a claim is from another host, its counter is watched for up to `wait_s` seconds
    (default EXPIRY_S). The time is shorter for a claim of the same `owner`: a retry follows a dead
    worker, but a worker that only lost its network may still run.
    """
    watch_s = EXPIRY_S if wait_s is None else wait_s
    if isinstance(files, LocalFiles):
        try:
            lock = try_lock(files.root / f"{name}.lock")
        except OSError as error:
            if not locks_are_missing(error):
                raise
            return _claim_by_name(files, name, owner, watch_s)
        if lock is None:
            return None
        found = _read(files, name)
        foreign = found is not None and found["host"] != host()
        if found is not None and foreign and _is_alive(files, name, found, owner, watch_s):
            lock.release()
            return None
        return Claim(files, name, owner, lock)
    return _claim_by_name(files, name, owner, watch_s)


def held(files: Files, name: str) -> bool:
    """Whether a process has the claim. It does not wait, so a counter of another host counts."""
    if isinstance(files, LocalFiles):
        found = _read(files, name)
        if found is None:
            return False
        if found["host"] != host():
            return True  # only `claim` takes the time to watch the counter
        try:
            lock = try_lock(files.root / f"{name}.lock")
        except OSError as error:
            if not locks_are_missing(error):
                raise
            return not _process_ended(found)
        if lock is None:
            return True
        lock.release()
        return False
    found = _read(files, name)
    return found is not None and not (found["host"] == host() and _process_ended(found))


def owner_of(files: Files, name: str) -> str:
    """The `owner` of the claim in the store, which may be dead; empty if there is no claim."""
    found = _read(files, name)
    return str(found["owner"]) if found is not None else ""


def _claim_by_name(files: Files, name: str, owner: str, watch_s: float) -> Claim | None:
    """A claim without a lock: the first process that creates the file or object has it."""
    token = uuid4().hex
    about = {"owner": owner, "host": host(), "pid": os.getpid(), "token": token, "beat": -1}
    note = json.dumps(about).encode()
    if not files.create(name, note):
        data = files.read(name)
        if data is None:  # it was released meanwhile; the caller tries again
            return None
        found = _parsed(data)
        if found is None:
            alive = _changes(files, name, data, watch_s)  # damaged: whose it is cannot be known
        else:
            alive = _is_alive(files, name, found, owner, watch_s)
        if alive or _parsed(files.read(name)) != found:  # another process has it, or was faster
            return None
        files.delete(name)
        if not files.create(name, note):
            return None
        # a third process may have read the dead claim before, and deleted this one
        time.sleep(SETTLE_S)
        if (_read(files, name) or {}).get("token") != token:
            return None
    return Claim(files, name, owner, None, token)


def _is_alive(files: Files, name: str, found: dict[str, Any], owner: str, wait_s: float) -> bool:
    """Whether the process of the claim in the store still runs."""
    if found["host"] == host() and _process_ended(found):
        return False
    return _counts(files, name, found, min(wait_s, OWN_S) if found["owner"] == owner else wait_s)


def _process_ended(found: dict[str, Any]) -> bool:
    """Whether the process of a claim of this machine has ended."""
    try:
        os.kill(int(found["pid"]), 0)
    except (KeyError, ValueError, PermissionError):
        return False
    except ProcessLookupError:
        return True
    return False


def _counts(files: Files, name: str, seen: dict[str, Any], wait_s: float) -> bool:
    """Whether the counter changes within `wait_s` seconds."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        now = _read(files, name)
        if now != seen:
            return now is not None
        time.sleep(min(1.0, wait_s / 10))
    return False


def _changes(files: Files, name: str, seen: bytes, wait_s: float) -> bool:
    """Whether a file's bytes change within `wait_s` seconds."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        if files.read(name) != seen:
            return True
        time.sleep(min(1.0, wait_s / 10))
    return False


def _read(files: Files, name: str) -> dict[str, Any] | None:
    """The claim in the store; None if there is none or it is damaged."""
    (data,) = files.read_many([name]).values() or (None,)
    return _parsed(data)


def _parsed(data: bytes | OSError | None) -> dict[str, Any] | None:
    try:
        note = json_object(data) if isinstance(data, bytes) else {}
    except ValueError:
        return None
    texts = all_strings([note.get(key) for key in ("owner", "host")])
    pid = note.get("pid", 1)
    whole = texts and "beat" in note and is_count(pid) and 0 < pid <= LARGEST_PID
    return note if whole else None


@cache
def host() -> str:
    """Host name, boot id and PID namespace: a process number is unique among processes with these.

    Two containers can have the same host name and boot id but separate process numbers.
    """
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    started = boot.read_text().strip()[:8] if boot.is_file() else ""
    counted = "".join(filter(str.isdigit, os.readlink(space))) if space.is_symlink() else ""
    return "-".join(filter(None, (socket.gethostname(), started or str(os.getuid()), counted)))
