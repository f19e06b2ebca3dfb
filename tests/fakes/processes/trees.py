"""The processes below a process."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def eventually(find: Callable[[], Any], what: str, limit_s: float = 60) -> Any:
    end = time.monotonic() + limit_s
    while (found := find()) is None:
        assert time.monotonic() < end, what
        time.sleep(0.2)
    return found


def child(process: "subprocess.Popen[str]", words: str) -> int | None:
    """The number of a process below `process` whose command line has `words`."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    below = {process.pid}
    while more := {one for one, parent in parents.items() if parent in below} - below:
        below |= more
    for one in below:
        with suppress(OSError):
            line = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if words in line:
                return one
    return None


def output_after_a_kill(process: "subprocess.Popen[str]", name: str, wait_s: float) -> str:
    """Kill the process below `process` whose command has `name` while a job runs on Ray.

    Returns what `process` has printed at its end.
    """
    eventually(lambda: child(process, "ImplicitFunc.train"), "no worker started")
    os.kill(eventually(lambda: child(process, name), f"no {name}"), signal.SIGKILL)
    said, _ = process.communicate(timeout=wait_s)
    return said
