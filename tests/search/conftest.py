"""The data set of the search tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data(synthetic: Path) -> Path:
    return synthetic
