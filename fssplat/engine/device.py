"""Seeds, random states and the machine's settings: what makes two runs of one spec agree."""

import base64
import contextlib
import random
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third parties draw from the global state
    torch.manual_seed(seed)


@contextlib.contextmanager
def deterministic(on: bool = True) -> Iterator[None]:
    """Same bits from the same input on one machine; the caller's settings come back afterwards.

    A CUDA kernel that has no deterministic form warns and runs. Benchmarking is off, since it may
    pick another kernel in another run.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(on, warn_only=True)
    torch.backends.cudnn.benchmark = not on
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)
        torch.backends.cudnn.benchmark = benchmark


@contextlib.contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Whatever draws inside (an evaluation between two steps) changes no draw after it."""
    tensors, header = random_state(device)
    try:
        yield
    finally:
        restore_random_state(tensors, header, device)


def random_state(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The states of all generators: torch's as uint8 tensors, the others as JSON values."""
    tensors = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    header = {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), _packed(keys), int(position), int(has_gauss), float(cached)],
    }
    return tensors, header


def restore_random_state(
    tensors: dict[str, Tensor], header: dict[str, Any], device: torch.device
) -> None:
    """Set every generator to what `random_state` gave."""
    torch.set_rng_state(tensors["torch"].cpu())
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"].cpu(), device)
    version, internal, gauss = header["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = header["numpy"]
    state = (name, np.frombuffer(base64.b64decode(keys), np.uint32), position, has_gauss, cached)
    np.random.set_state(state)  # noqa: NPY002


def _packed(keys: Any) -> str:
    return base64.b64encode(np.asarray(keys, dtype=np.uint32).tobytes()).decode()


def autocast(
    device: torch.device, precision: Literal["fp32", "bf16"]
) -> AbstractContextManager[Any]:
    """bf16 where a layer gains, float32 weights; needs no gradient scaling."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Most bytes held on a CUDA device since the reset; on CPU the process's largest size."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
