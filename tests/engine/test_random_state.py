"""Random states: saved, restored, and unchanged by what runs between two steps."""

# ruff: noqa: NPY002

import random

import numpy as np
import torch

from fssplat.engine.device import CPU
from fssplat.engine.random_state import (
    kept_random_state,
    random_state,
    restore_random_state,
    seed_everything,
)


def draws() -> tuple[float, list[float], list[float], float]:
    """One draw of every generator; `gauss` keeps a second value for its next call."""
    return random.random(), np.random.rand(3).tolist(), torch.rand(3).tolist(), random.gauss(0, 1)


def test_a_restored_state_gives_the_same_draws_again() -> None:
    seed_everything(5)
    random.gauss(0, 1)
    np.random.standard_normal()
    state = random_state(CPU)
    first = draws()
    restore_random_state(state, CPU)
    assert draws() == first


def test_one_seed_gives_the_same_draws_of_every_generator() -> None:
    seed_everything(2**40 + 5)  # beyond NumPy's 32 bits
    first = draws()
    seed_everything(2**40 + 5)
    assert draws() == first


def test_draws_inside_the_context_change_no_later_draw() -> None:
    seed_everything(5)
    expected = draws()
    seed_everything(5)
    with kept_random_state(CPU):
        draws()
    assert draws() == expected
