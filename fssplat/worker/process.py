"""The worker process: its threads, its errors, its reset between two tasks."""

from dataclasses import dataclass

import torch

from fssplat.common.disk_space import is_disk_full
from fssplat.engine.device import reset_device, return_memory

RETRIES = 3  # restarts of a task whose worker died, each from its checkpoint
TRANSIENT = (OSError, EOFError, MemoryError)  # a new process may succeed


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    A job: finished, failed, diverged, skipped, interrupted or busy (another launch runs it).
    A point of a search: finished, failed, diverged, interrupted or full (the disk has no room).
    """

    state: str
    reason: str = ""

    @property
    def line(self) -> str:
        """State and reason, for a log."""
        return f"{self.state}: {self.reason}" if self.reason else self.state


def set_threads(cpu: float) -> None:
    """Use as many threads as cores were reserved, so that jobs do not compete for cores."""
    torch.set_num_threads(max(1, int(cpu)))


def reset_process() -> None:
    """Prepare a reused process for the next task: free memory, reset PyTorch's switches."""
    return_memory()
    reset_device()


def is_transient(error: BaseException) -> bool:
    """Whether the same task may succeed in a new process."""
    lost_device = "CUDA error" in str(error) or "NCCL" in str(error)
    missing = isinstance(error, FileNotFoundError | PermissionError)
    return (isinstance(error, TRANSIENT) and not is_disk_full(error) and not missing) or lost_device
