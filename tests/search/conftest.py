"""One small synthetic data set for all search tests."""

from pathlib import Path

import pytest

from tests.cli.small import data_set


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "synthetic")
