"""Settings and data that every test shares."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray on loopback only
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest

if TYPE_CHECKING:
    from fssplat.launching.cluster import Cluster

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, list files and parity cases that lies beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("../shared is missing: real images, lists and parity cases lie there")
    return SHARED


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a synthetic data set of 40 training and 60 test images; do not change it."""
    from tests.fakes.synthetic_jobs import build_synthetic

    return build_synthetic(tmp_path_factory.mktemp("data") / "synthetic")


@pytest.fixture
def timing_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the lock of `fssplat time`: tests in other processes hold other locks."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def machines() -> "Iterator[Cluster]":
    """A small Ray on this machine."""
    from fssplat.launching.cluster import cluster

    with cluster() as found:
        yield found


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and without rows, to be copied: creating one is slow."""
    from fssplat.tracking.runs import open_tracking

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_tracking(f"sqlite:///{path}", "template")
    return path
