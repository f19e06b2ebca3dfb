"""The command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def start_command(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start `fssplat` with these arguments, one thread per worker."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", "from fssplat.cli import main; main()"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def output_of(process: subprocess.Popen[str], timeout_s: float = 280) -> tuple[int, str, str]:
    """Wait until the command ends; return its exit code, standard output and standard error."""
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


@contextmanager
def module_with_own_ray(
    *arguments: str | Path, start_new_session: bool = False, **variables: str
) -> "Iterator[subprocess.Popen[str]]":
    """`python -m` with these arguments, on a Ray of its own; killed when the block ends."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=start_new_session,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
