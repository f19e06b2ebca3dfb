"""The folder of a case."""

from pathlib import Path

import pytest

from tests.bad_inputs.case import Folder


@pytest.fixture(scope="session")
def modules_loaded() -> None:
    """Import what commands import later, so that the memory of a case is that of its command."""
    import fssplat.launching.launch
    import fssplat.search.driver
    import fssplat.tracking.launch_listener  # noqa: F401


@pytest.fixture
def folder(tmp_path: Path, synthetic: Path) -> Folder:
    """An empty folder, and a built data set elsewhere."""
    place = tmp_path / "in"
    place.mkdir()
    return Folder(place, synthetic)
