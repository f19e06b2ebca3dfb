"""What the tests of whole trainings and jobs share."""

from pathlib import Path

import pytest
import torch

from tests.engine.small_jobs import data_set


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic data set."""
    return data_set(tmp_path_factory.mktemp("data") / "synthetic")
