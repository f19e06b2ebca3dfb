"""Keep what a job prints: standard output and standard error, also of C code and child processes.

The log is written as it is printed, so that it is whole up to the end of a process that dies.
"""

import os
import re
import socket
import sys
import threading
import time
import traceback
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from fssplat.common.passwords import hidden

HEAD = 300_000  # bytes kept of the beginning of a log that is too long
TAIL = 600_000  # bytes kept of its end
LONGEST = 1_000_000  # bytes from which on the middle is left out
HEADER = re.compile(rb"^--- attempt (\d+): [^\n]*\n", re.M)
LEFT_OUT = re.compile(rb"^--- (\d+) bytes are left out here\n", re.M)
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK  # a pipe in its place is an error: no waiting
STREAMS = (1, 2)  # file descriptors of standard output and standard error


class JobLog:
    """Sends all that this process prints to the job's log between `start` and `close`.

    Attempts are appended to one file, each after a line with its number, time, host and process.
    The descriptors 1 and 2 are replaced and restored, since a worker process runs several jobs.
    """

    def __init__(self, path: Path, launch: str) -> None:
        self.path, self._launch = path, launch
        self._undo: ExitStack | None = None
        self._checked = 0  # size of the file when `keep_short` read it
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin an attempt. Does nothing if the file cannot be opened."""
        with suppress(OSError):
            written = self.path.read_bytes() if self.path.is_file() else b""
            attempt = max((int(found[1]) for found in HEADER.finditer(written)), default=0) + 1
            log = os.open(self.path, _APPEND | os.O_CREAT, 0o644)
            try:
                with ExitStack() as stack:
                    _redirect(log, stack)
                    self._undo = stack.pop_all()
            finally:
                os.close(log)
            now = time.strftime("%Y-%m-%d %H:%M:%S %z")
            about = f"{now}, host {socket.gethostname()}, process {os.getpid()}"
            line = f"--- attempt {attempt}: {about}, launch {self._launch}\n"
            self._append(("\n" if written else "") + line)

    def add_traceback(self) -> None:
        """Append the traceback of the exception that is being handled."""
        self._append(hidden(traceback.format_exc()))

    def keep_short(self) -> None:
        """Leave out the middle of a log that is too long, and hide passwords in it."""
        if self._undo is None:
            return
        with self._lock, suppress(OSError):
            if self.path.stat().st_size == self._checked:
                return
            written = self.path.read_bytes()
            kept = shortened(without_passwords(written))
            self._checked = len(kept)
            if kept != written:
                # In place, since the process and its children have the file open to append to it.
                writer = os.open(self.path, _APPEND)
                try:
                    os.ftruncate(writer, 0)
                    os.write(writer, kept)
                finally:
                    os.close(writer)

    def close(self, end: str) -> None:
        """Append how the attempt ended, and restore where the process prints."""
        undo = self._undo
        if undo is None:
            return
        self._append(f"--- {hidden(end)}\n")
        with suppress(OSError):
            undo.close()
        self.keep_short()
        self._undo = None

    def _append(self, text: str) -> None:
        if self._undo is not None:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
                os.write(2, text.encode(errors="backslashreplace"))


def _redirect(log: int, undo: ExitStack) -> None:
    """Print to the descriptor `log` from now on; `undo` restores everything."""
    before = (sys.stdout, sys.stderr)
    for stream in before:
        with suppress(OSError, ValueError):
            stream.flush()
    for number in STREAMS:
        saved = os.dup(number)
        undo.callback(_restore, saved, number)
        os.dup2(log, number, inheritable=True)
    # Python's own streams need not print to descriptors 1 and 2, and may keep lines back.
    ours = tuple(_stream(number) for number in STREAMS)
    sys.stdout, sys.stderr = ours
    undo.callback(_set_streams, before, ours)
    undo.enter_context(warnings.catch_warnings())  # each job's first warning is shown again


def _stream(number: int) -> Any:
    """Text written line by line to a file descriptor, which stays open."""
    return open(number, "w", buffering=1, errors="backslashreplace", closefd=False)


def _set_streams(before: tuple[Any, Any], ours: tuple[Any, Any]) -> None:
    for stream in ours:
        with suppress(OSError, ValueError):
            stream.flush()
    if (sys.stdout, sys.stderr) == ours:
        sys.stdout, sys.stderr = before


def _restore(saved: int, number: int) -> None:
    os.dup2(saved, number, inheritable=True)
    os.close(saved)


def without_passwords(written: bytes) -> bytes:
    """The log with `***` in place of the passwords of addresses."""
    if b"://" not in written:
        return written
    text = written.decode("utf-8", "surrogateescape")
    return hidden(text).encode("utf-8", "surrogateescape")


def shortened(written: bytes) -> bytes:
    """The beginning and the end of a log that is longer than LONGEST; all headers are kept."""
    if len(written) <= LONGEST:
        return written
    first = written.rfind(b"\n", 0, HEAD) + 1 or HEAD
    last = written.find(b"\n", len(written) - TAIL) + 1 or len(written) - TAIL
    middle = written[first:last]
    count = len(middle)
    for found in LEFT_OUT.finditer(middle):
        count += int(found[1]) - len(found[0])
    headers = b"".join(found[0] for found in HEADER.finditer(middle))
    return written[:first] + headers + b"--- %d bytes are left out here\n" % count + written[last:]
