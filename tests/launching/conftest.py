"""One small Ray and one empty MLflow database for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fssplat.launching.cluster import Cluster, cluster


@pytest.fixture(scope="session")
def machines() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its schema and nothing in it; making one takes seconds."""
    from fssplat.tracking.mlflow import open_tracking

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_tracking(f"sqlite:///{path}", "template")
    return path
