"""What a running job uses: its own process and its own GPU.

MLflow's sampler reports the whole host and every GPU in it, which says little where several jobs
share a machine.
"""

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

EVERY_S = 10.0  # seconds between two readings
MEGABYTE = 1e6


class Meter:
    """Readings of this process, at most one every `EVERY_S` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = self._read_at = clock()
        self._cpu_s = time.process_time()

    def read(self) -> tuple[int, dict[str, float]] | None:
        """Seconds since the start, and the values; None where it is not time yet."""
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
    """Memory that the process holds now; where the system does not say, the most it ever held."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def gpu_usage() -> Mapping[str, float]:
    """Of the job's GPU: memory that this process holds, and how busy all its users keep it.

    Nothing without a GPU in use; no utilisation where NVIDIA's library (nvidia-ml-py) is missing.
    """
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return {}
    values = {"gpu_memory_megabytes": torch.cuda.memory_reserved() / MEGABYTE}
    with suppress(Exception):  # of NVIDIA's library, which a slice of a GPU makes raise its own
        values["gpu_utilization_percentage"] = float(torch.cuda.utilization())
    return values
