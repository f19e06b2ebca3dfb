"""Who works on what: a claim that outlives no holder.

On a local disk a claim is a lock of the operating system, free the moment its holder dies. On
shared and object stores a beating counter stands beside it: a claim whose counter stands still for
`EXPIRY_S` of the observer's own monotonic clock is dead, so no two clocks are ever compared.
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
from typing import Self
from uuid import uuid4

from fssplat.common.locks import FileLock, try_lock
from fssplat.results.files import Files, LocalFiles, RemoteFiles

BEAT_S = 10.0  # seconds between two beats of a holder
EXPIRY_S = 60.0  # a counter that stands still this long belongs to nobody
SETTLE_S = 2.0  # after taking a dead claim over, for another who saw the same death to do so too
OWN_S = 25.0  # the same for a claim of one's own launch, whose worker was reported dead


class Claim:
    """The right to work on one name in a store, until it is released or its holder dies.

    `lost` is set where another took it for dead meanwhile, as after a minute out of reach.
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
        """Give the name up; safe to call twice."""
        if self._done.is_set():
            return
        self._done.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if not self._taken():
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
            with contextlib.suppress(Exception):  # a missed beat is not worth the job's life
                if self._taken():
                    self.lost.set()
                else:
                    self._beat()

    def _taken(self) -> bool:
        """Whether the claim that is there is somebody else's."""
        there = _read(self._files, self._name)
        return there is not None and there.get("token") != self._token


def claim(files: Files, name: str, owner: str, wait_s: float | None = None) -> Claim | None:
    """The claim on `name`, or None while another living holder has it.

    A claim left by another host is watched for up to `wait_s` (default EXPIRY_S) to see whether it
    beats. One of the same `owner` is watched for a shorter time: a retry follows a lost worker, but
    a machine that is only out of reach may still be at work.
    """
    patience = EXPIRY_S if wait_s is None else wait_s
    if isinstance(files, LocalFiles):
        lock = try_lock(files.root / f"{name}.lock")
        if lock is None:
            return None
        left = _read(files, name)
        foreign = left is not None and left["host"] != host()
        if left is not None and foreign and _lives(files, name, left, owner, patience):
            lock.release()
            return None
        return Claim(files, name, owner, lock)
    assert isinstance(files, RemoteFiles)
    return _claim_object(files, name, owner, patience)


def held(files: Files, name: str) -> bool:
    """Whether a claim is held, without waiting: a lock for sure, a counter on its word."""
    if isinstance(files, LocalFiles):
        left = _read(files, name)
        if left is None:
            return False
        if left["host"] != host():
            return True  # on its word: only `claim` takes the time to see whether it beats
        lock = try_lock(files.root / f"{name}.lock")
        if lock is None:
            return True
        lock.release()
        return False
    left = _read(files, name)
    return left is not None and not (left["host"] == host() and _gone(left))


def _claim_object(files: RemoteFiles, name: str, owner: str, patience: float) -> Claim | None:
    """A claim where only whole objects exist: the first to create it has it."""
    token = uuid4().hex
    about = {"owner": owner, "host": host(), "pid": os.getpid(), "token": token, "beat": -1}
    note = json.dumps(about).encode()
    if not files.create(name, note):
        left = _read(files, name)
        if left is None or _lives(files, name, left, owner, patience):
            return None
        if _read(files, name) != left:  # somebody else was quicker
            return None
        files.delete(name)
        if not files.create(name, note):
            return None
        time.sleep(SETTLE_S)  # a third may have read the dead claim before, and deleted ours
        if (_read(files, name) or {}).get("token") != token:
            return None
    return Claim(files, name, owner, None, token)


def _lives(files: Files, name: str, left: dict[str, str], owner: str, patience: float) -> bool:
    """Whether a claim that is there has a living holder."""
    if left["host"] == host() and _gone(left):
        return False
    return _beats(files, name, left, min(patience, OWN_S) if left["owner"] == owner else patience)


def _gone(left: dict[str, str]) -> bool:
    """Whether a holder on this machine has died."""
    try:
        os.kill(int(left["pid"]), 0)
    except (KeyError, ValueError, PermissionError):
        return False
    except ProcessLookupError:
        return True
    return False


def _beats(files: Files, name: str, seen: dict[str, str], patience: float) -> bool:
    """Whether the counter moves within `patience` seconds of our own clock."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        now = _read(files, name)
        if now != seen:
            return now is not None
        time.sleep(min(1.0, patience / 10))
    return False


def _read(files: Files, name: str) -> dict[str, str] | None:
    data = files.read(name)
    try:
        note = json.loads(data) if data else None
    except ValueError:
        return None
    return note if isinstance(note, dict) and {"owner", "host", "beat"} <= set(note) else None


@cache
def host() -> str:
    """Where a process number means one process: name, boot id and PID namespace of this machine.

    Containers may share the first two and still count their processes apart.
    """
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    started = boot.read_text().strip()[:8] if boot.is_file() else ""
    counted = "".join(filter(str.isdigit, os.readlink(space))) if space.is_symlink() else ""
    return "-".join(filter(None, (socket.gethostname(), started or str(os.getuid()), counted)))
