"""The official layout that the tests of a build read."""

from pathlib import Path

import pytest

from tests.fakes.official_layouts import voc_layout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """VOC2012 with 5 + 3 images and SBD with one more."""
    return voc_layout(tmp_path / "official")
