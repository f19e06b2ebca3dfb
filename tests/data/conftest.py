"""Data sets that several tests read: real ones from ../shared, and small ones with known scenes."""

from pathlib import Path

import pytest

from fssplat.data.build.convert import build
from fssplat.data.index import Dataset
from tests.fakes.official_layouts import built_voc_of_pairs


@pytest.fixture(scope="session")
def voc(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """94 + 89 real images in the VOC and SBD layouts."""
    folder = tmp_path_factory.mktemp("voc") / "built"
    return Dataset.open(build("pascal-5i", shared / "data/voc_mini", folder).root)


@pytest.fixture(scope="session")
def coco(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """122 + 105 real images of COCO 2017, all 80 classes."""
    folder = tmp_path_factory.mktemp("coco") / "built"
    return Dataset.open(build("coco-20i", shared / "data/coco_mini", folder).root)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Every class in 4 training and 4 test images of the VOC layout, two classes an image.

    Image i of a split shows class i % 20 + 1 on the left and class (i + 5) % 20 + 1 on the right:
    the right one belongs to the next fold.
    """
    folder = tmp_path_factory.mktemp("scenes")
    plan = [(i % 20 + 1, (i + 5) % 20 + 1) for i in range(40)]
    return built_voc_of_pairs(folder, {"train": plan, "val": plan})
