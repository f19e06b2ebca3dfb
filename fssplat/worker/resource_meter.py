"""Measure the resources of a running job: its own process and its own GPU.

MLflow's sampler reports the whole host and every GPU in it, which says little if several jobs
share a machine.
"""

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

EVERY_S = 10.0  # seconds between two readings
MEGABYTE = 1e6


class Meter:
    """Readings of this process, at most one every `EVERY_S` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = self._read_at = clock()
        self._cpu_s = time.process_time()

    def read(self) -> tuple[int, dict[str, float]] | None:
        """Seconds since the start, and the values. Returns None if it is too early."""
        now = self._clock()
        passed = now - self._read_at
        if passed < EVERY_S:
            return None
        cpu_s = time.process_time()
        values = {
            "process_cpu_percentage": 100 * (cpu_s - self._cpu_s) / passed,  # 100: one core
            "process_memory_megabytes": resident_bytes() / MEGABYTE,
            **gpu_usage(),
        }
        self._read_at, self._cpu_s = now, cpu_s
        return round(now - self._started), values


def resident_bytes() -> int:
    """Memory of the process now; if the system does not report it, its maximum so far."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def gpu_usage() -> Mapping[str, float]:
    """Memory of this process on the job's GPU, and the utilisation of that GPU by all processes.

    Empty without a GPU in use; no utilisation if NVIDIA's library (nvidia-ml-py) is missing.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return {}
    values = {"gpu_memory_megabytes": torch.cuda.memory_reserved() / MEGABYTE}
    with suppress(Exception):  # NVIDIA's library raises its own errors on a slice of a GPU
        values["gpu_utilization_percentage"] = float(torch.cuda.utilization())
    return values
