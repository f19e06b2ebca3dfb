"""The packages, machine and commit of a launch, stored beside results; no part of a trial id."""

import os
import platform
import shutil
import socket
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import fssplat
from fssplat.common.passwords import hidden

DIFF_CHARACTERS = 200_000  # of uncommitted changes that are stored


def capture() -> dict[str, Any]:
    """The environment of a launch as JSON values."""
    return {
        "fssplat": fssplat.__version__,
        "commit": commit(),
        "uncommitted": uncommitted(),
        "python": python(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
        "packages": packages(),
        "settings": {k: v for k, v in sorted(os.environ.items()) if _is_recorded(k)},
    }


@cache
def commit() -> str:
    """The commit of the source that runs; empty for an installed package."""
    return _git("rev-parse", "HEAD").strip()


def uncommitted() -> str:
    """Uncommitted changes to tracked files, as a diff that is cut at DIFF_CHARACTERS."""
    return hidden(_git("diff", "HEAD"))[
        :DIFF_CHARACTERS
    ]  # an experiment file may contain a password


def python() -> str:
    """The version of Python, e.g. 3.11.9."""
    return sys.version.split()[0]


@cache
def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    found = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def gpus() -> list[str]:
    """`name, memory, driver` of each GPU of this machine, from nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return _run(query).splitlines()


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _is_recorded(name: str) -> bool:
    """Whether an environment variable changes a run and contains no secret."""
    used = name.startswith(("FSSPLAT_", "OMP_", "CUDA_", "CUBLAS_", "TORCH_"))
    secret = any(word in name for word in ("KEY", "TOKEN", "SECRET", "PASSWORD"))
    return used and not secret


def _git(*arguments: str) -> str:
    folder = Path(fssplat.__file__).resolve().parent
    return _run(["git", "-C", str(folder), *arguments]) if shutil.which("git") else ""


def _run(command: list[str]) -> str:
    """A tool's output; empty if it fails, since a launch does not need it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
