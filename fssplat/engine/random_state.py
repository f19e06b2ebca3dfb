"""Seeds and states of every random number generator that a training may draw from."""

import base64
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

RandomState = tuple[dict[str, Tensor], dict[str, Any]]  # torch's generators; Python's and NumPy's


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third parties draw from the global state
    torch.manual_seed(seed)


def random_state(device: torch.device) -> RandomState:
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


def restore_random_state(state: RandomState, device: torch.device) -> None:
    """Set every generator to a state that `random_state` returned."""
    tensors, header = state
    torch.set_rng_state(tensors["torch"].cpu())
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"].cpu(), device)
    version, internal, gauss = header["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = header["numpy"]
    unpacked = np.frombuffer(base64.b64decode(keys), np.uint32)
    np.random.set_state((name, unpacked, position, has_gauss, cached))  # noqa: NPY002


@contextlib.contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Restore all generators afterwards, so that an evaluation between two steps changes no draw
    of the training."""
    before = random_state(device)
    try:
        yield
    finally:
        restore_random_state(before, device)


def _packed(keys: Any) -> str:
    return base64.b64encode(np.asarray(keys, dtype=np.uint32).tobytes()).decode()
