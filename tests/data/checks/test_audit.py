from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fssplat.cli.data import app
from fssplat.common.errors import InputError
from fssplat.data.checks.audit import audit
from fssplat.data.episodes.training import Episode
from fssplat.data.index import Dataset
from fssplat.data.loader import TrainingBatches
from fssplat.data.masks.labels import Label
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import AugmentSpec, TrainingSpec
from tests.fakes.official_layouts import built_voc_of_pairs, small_area_protocol

TRAINING = TrainingSpec(
    steps=20, batch=4, size=24, augment=AugmentSpec(rotate=10, flip=True, keep_object=0.85)
)


def batches_of(data: Dataset, protocol: Protocol, fold: int = 0) -> TrainingBatches:
    return TrainingBatches(data, fold, protocol, TRAINING)


@pytest.mark.parametrize("fold", [0, 1, 2, 3])
@pytest.mark.parametrize("novel", ["background", "ignore"])
def test_the_training_stream_is_clean(scenes: Dataset, fold: int, novel: str) -> None:
    found = audit(batches_of(scenes, small_area_protocol(novel=novel), fold), 10)
    found.require_clean()
    assert found.episodes == 40
    assert len(found.images) == 40  # an epoch queries all of them
    kind = {"background": "background", "ignore": "ignored"}[novel]
    assert sum(found.novel_pixels.values()) == found.novel_pixels[kind] > 0
    assert found.novel_pixels[kind] % 100 == 0  # a square's, each time its image is looked at
    assert len(found.with_novel) == 20


def test_images_with_novel_classes_are_absent_where_excluded(scenes: Dataset) -> None:
    found = audit(batches_of(scenes, small_area_protocol(novel="exclude-image")), 5)
    found.require_clean()
    assert not found.with_novel


def test_real_data_is_clean(voc: Dataset, coco: Dataset) -> None:
    protocol = small_area_protocol(
        min_area=2048, min_area_query=2048, short_classes="drop", novel="ignore"
    )
    for data in (voc, coco):
        found = audit(batches_of(data, protocol, 1), 2)
        found.require_clean()
        assert found.episodes == 8


class Leaky(TrainingBatches):
    """Names every class in the image, as a slip in the loader might."""

    def target(self, row: int, classes: tuple[int, ...]) -> Label:
        return np.where(self.dataset.label(row) == 255, 255, self.dataset.label(row) > 0).astype(
            np.uint8
        )


def test_a_novel_label_that_gets_through_is_found(scenes: Dataset) -> None:
    found = audit(Leaky(scenes, 0, small_area_protocol(), TRAINING), 5)
    with pytest.raises(InputError, match="novel pixels are not all background"):
        found.require_clean()
    assert any("are not of that class" in text for text in found.violations)


def test_an_episode_about_a_novel_class_is_found(scenes: Dataset) -> None:
    batches = batches_of(scenes, small_area_protocol())
    one = int(scenes.rows_of(1, "train")[0])
    two = int(scenes.rows_of(1, "train")[1])

    class Wrong(type(batches.episodes)):  # type: ignore[misc]
        def __call__(self, epoch: int, i: int) -> Episode:
            return Episode(one, (two,), (1,))

    batches.episodes.__class__ = Wrong
    found = audit(batches, 1)
    with pytest.raises(InputError, match="it contains the novel class aeroplane"):
        found.require_clean()


def test_a_training_image_that_also_tests_is_found(scenes: Dataset) -> None:
    batches = batches_of(scenes, small_area_protocol())
    row = int(scenes.rows_of(1, "val")[0])  # tests class 1 of fold 0, shows 6 as well
    train = int(scenes.rows_of(6, "train")[0])
    assert scenes.area(row, 6)

    class Wrong(type(batches.episodes)):  # type: ignore[misc]
        def __call__(self, epoch: int, i: int) -> Episode:
            return Episode(row, (train,), (6,))

    batches.episodes.__class__ = Wrong
    found = audit(batches, 1)
    assert any("is a test image" in text for text in found.violations)


def test_the_command_prints_what_it_saw(scenes: Dataset) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["audit", scenes.root, "--episodes", "4", "--protocol", "panet"])
    assert result.exit_code == 0, result.output
    assert "fold 0, protocol panet: no novel label is seen." in result.output
    assert "4 training episodes" in result.output


def test_the_command_imports_lists_and_says_what_they_are(tmp_path: Path) -> None:
    data = built_voc_of_pairs(tmp_path / "voc", {"train": [(6, 7)], "val": [(1, 2)]})
    (tmp_path / "pfenet/pascal").mkdir(parents=True)
    (tmp_path / "pfenet/pascal/val.txt").write_text("JPEGImages/x.jpg x.png\n")
    result = CliRunner().invoke(app, ["import-lists", data.root, "--source", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "pfenet-val: 1 line, 1 image, NOT the published list" in result.output
    assert "not in the data set: 1 line, e.g. JPEGImages/x.jpg" in result.output
