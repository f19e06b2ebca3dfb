"""The procedural set: a pure function of its seed, in the VOC layout."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.index import Dataset
from fssplat.data.masks.labels import class_pixels
from fssplat.data.sources import synthetic, synthetic_pictures
from fssplat.data.sources.record import SourceOptions
from fssplat.data.sources.shapes import FORMS, TEXTURES, polygon

SMALL = SourceOptions(train_images=8, val_images=4)


def test_a_picture_is_a_function_of_seed_split_and_number() -> None:
    picture, label = synthetic_pictures.draw(3, "train", 5)
    again, label_again = synthetic_pictures.draw(3, "train", 5)
    assert (picture == again).all()
    assert (label == label_again).all()
    for other in (synthetic_pictures.draw(4, "train", 5), synthetic_pictures.draw(3, "val", 5)):
        assert other[0].shape != picture.shape or (other[0] != picture).any()


def test_every_class_has_its_own_form_and_texture() -> None:
    assert len(FORMS) == len(TEXTURES) == len(set(synthetic_pictures.CLASSES)) == 20


def test_the_main_object_is_in_sight_and_classes_take_turns() -> None:
    for number in range(20):
        _, label = synthetic_pictures.draw(0, "train", number)
        share = (label == number + 1).mean()
        assert synthetic_pictures.VISIBLE <= share <= 0.6
        assert set(class_pixels(label)) <= set(range(1, 21))
        assert (label == 255).any()


def test_images_show_several_classes_and_hidden_objects() -> None:
    labels = [synthetic_pictures.draw(0, "val", number)[1] for number in range(20)]
    assert np.mean([len(class_pixels(label)) for label in labels]) > 2
    shares = [count / label.size for label in labels for count in class_pixels(label).values()]
    assert min(shares) < 0.02  # partly hidden, or cut by the edge
    assert max(shares) > 0.3


def test_a_polygon_holds_the_points_inside_it() -> None:
    triangle = polygon((-1, 1), (1, 1), (0, -1))
    x, y = np.array([0.0, 0.0, 0.9, -0.9]), np.array([0.0, 1.1, -0.9, 0.95])
    assert list(triangle(x, y)) == [True, False, False, True]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_fills_a_fair_part_of_its_square(name: str) -> None:
    y, x = np.mgrid[-1:1:0.02, -1:1:0.02]
    assert 0.25 < FORMS[name](x, y).mean() < 0.8


@pytest.mark.parametrize("name", TEXTURES)
def test_every_texture_has_both_tones(name: str) -> None:
    v, u = np.mgrid[-2:2:0.05, -2:2:0.05].astype(np.float32)
    tone = TEXTURES[name](u, v)
    assert tone.shape == u.shape
    assert tone.min() >= 0
    assert tone.max() <= 1
    assert 0.1 < tone.mean() < 0.9
    assert tone.std() > 0.2


def test_labels_survive_the_voc_layout_and_the_shards(tmp_path: Path) -> None:
    build("synthetic", out=tmp_path / "built", settings=BuildSettings(options=SMALL))
    dataset = Dataset.open(tmp_path / "built")
    assert dataset.info.counts == {"train": 8, "val": 4}
    assert dataset.info.classes == synthetic_pictures.CLASSES
    for number in range(8):
        _, label = synthetic_pictures.draw(0, "train", number)
        assert (dataset.label(number) == label).all()


def test_pictures_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    recipe = synthetic.Recipe(synthetic_pictures.VERSION, 0, 3, 2)
    synthetic.draw_set(tmp_path / "one", recipe)
    synthetic.draw_set(tmp_path / "two", recipe, workers=2)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) == 2 * 5 + 4
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_pictures_are_drawn_once_and_again_for_another_seed(tmp_path: Path) -> None:
    first = synthetic.read(tmp_path, SMALL)
    drawn = first.records[0].image.stat().st_mtime_ns
    synthetic.read(tmp_path, SMALL)
    assert first.records[0].image.stat().st_mtime_ns == drawn
    old = first.records[0].image.read_bytes()
    synthetic.read(tmp_path, SourceOptions(seed=1, train_images=8, val_images=4))
    assert first.records[0].image.read_bytes() != old


def test_a_refused_build_leaves_the_pictures_of_the_data_set_alone(tmp_path: Path) -> None:
    first = build("synthetic", out=tmp_path, settings=BuildSettings(options=SMALL))
    picture = tmp_path / "source/JPEGImages/train_000000.jpg"
    old = picture.read_bytes()
    for other in ({"seed": 1}, {"train_images": 9}):
        options = SourceOptions(**{"train_images": 8, "val_images": 4, **other})
        with pytest.raises(InputError, match="from other files or options"):
            build("synthetic", out=tmp_path, settings=BuildSettings(options=options))
    assert picture.read_bytes() == old
    assert (
        build("synthetic", out=tmp_path, settings=BuildSettings(options=SMALL)).info == first.info
    )


def test_a_finished_set_needs_its_pictures_no_more(tmp_path: Path) -> None:
    first = build("synthetic", out=tmp_path, settings=BuildSettings(options=SMALL))
    shutil.rmtree(tmp_path / "source")
    assert (
        build("synthetic", out=tmp_path, settings=BuildSettings(options=SMALL)).info == first.info
    )
    assert not (tmp_path / "source").exists()


def test_an_interrupted_drawing_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(part: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "_draw_part", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthetic.read(tmp_path, SMALL)
    records = synthetic.read(tmp_path, SMALL).records
    assert all(record.image.is_file() for record in records)


def test_a_place_that_cannot_be_drawn_in_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("the only copy")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(InputError, match=r"cannot be drawn there \(.*Give --source"):
            synthetic.read(folder, SMALL)
    assert (tmp_path / "file").read_text() == "the only copy"


def test_other_files_are_never_drawn_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(InputError, match=r"contains other files\. Give --source an empty folder"):
        synthetic.read(tmp_path, SMALL)
