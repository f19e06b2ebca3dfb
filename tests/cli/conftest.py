"""One small synthetic data set for all command tests."""

from pathlib import Path

import pytest

from tests.cli.small import data_set


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "synthetic")
