"""MLflow databases and stores of the tracking tests."""

from pathlib import Path

import pytest

from fssplat.results.store import Store
from fssplat.tracking.runs import Tracking, open_tracking


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database whose schema is made once; each test has its own experiment in it."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def tracking(database: str, request: pytest.FixtureRequest) -> Tracking:
    found = open_tracking(database, request.node.name)
    found.start_launch("l1", "small", {})
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))
