"""What a number was made with: packages, machine, commit. Kept beside results, never hashed."""

import os
import platform
import shutil
import socket
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import fssplat
from fssplat.common.passwords import hidden

DIFF_BYTES = 200_000  # of uncommitted changes that are kept


def capture() -> dict[str, Any]:
    """The environment of a launch as JSON values."""
    return {
        "fssplat": fssplat.__version__,
        "commit": commit(),
        "uncommitted": uncommitted(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
        "packages": packages(),
        "settings": {k: v for k, v in sorted(os.environ.items()) if _tells(k)},
    }


def commit() -> str:
    """The commit of the source that runs; empty where it is an installed package."""
    return _git("rev-parse", "HEAD").strip()


def uncommitted() -> str:
    """Changes to tracked files of the source, as a diff; cut where it is long."""
    return hidden(_git("diff", "HEAD"))[:DIFF_BYTES]  # an experiment file may have its password


def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    found = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def gpus() -> list[str]:
    """`name, memory, driver` of each GPU of this machine, from the driver's own tool."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return _run(query).splitlines()


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _tells(name: str) -> bool:
    """Variables that steer a run and hold no secret."""
    steers = name.startswith(("FSSPLAT_", "OMP_", "CUDA_", "CUBLAS_", "TORCH_"))
    secret = any(word in name for word in ("KEY", "TOKEN", "SECRET", "PASSWORD"))
    return steers and not secret


def _git(*arguments: str) -> str:
    folder = Path(fssplat.__file__).resolve().parent
    return _run(["git", "-C", str(folder), *arguments]) if shutil.which("git") else ""


def _run(command: list[str]) -> str:
    """A tool's output; empty where it fails, since an environment is a record, not a need."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
