"""A data set of one's own: classes, folds, splits and labels from any layout."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.checks.own_data import difference_hash, remarks
from fssplat.data.folds import base_classes, novel_classes
from fssplat.data.index import Dataset
from fssplat.data.readers.class_choice import parsed_choice
from fssplat.data.sources.own_folds import dealt, folds_of
from fssplat.data.sources.record import OwnOptions, SourceOptions
from fssplat.experiment.protocols import PROTOCOLS
from tests.data.readers.layouts import HEIGHT, WIDTH, true_mask, write_json

FSSPLAT = PROTOCOLS["fssplat"]
CLASSES = ("cat", "cow", "dog", "hen")


def write_coco(folder: Path, images: int = 24) -> Path:
    """Pictures that show two classes each, in different places and sizes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    annotations: list[dict[str, Any]] = []
    for number in range(images):
        noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02d}.jpg", quality=95)
        for place, side in ((number % 4, 20), ((number + 1) % 4, 8)):
            box = [5, 5, 5 + side, 5, 5 + side, 5 + side, 5, 5 + side]
            one = {"image_id": number, "category_id": place, "segmentation": [box]}
            annotations.append(one)
    listed = [
        {"id": number, "file_name": f"{number:02d}.jpg", "height": HEIGHT, "width": WIDTH}
        for number in range(images)
    ]
    categories = [{"id": place, "name": name} for place, name in enumerate(CLASSES)]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    write_json(folder / "annotations.json", content)
    return folder


def built(source: Path, out: Path, name: str = "farm", overwrite: bool = False, **own: Any) -> Any:
    options = SourceOptions(own=OwnOptions(**own))
    return build(name, source, out, BuildSettings(options=options, overwrite=overwrite))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("own") / "source")


@pytest.fixture(scope="module")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.open(built(source, tmp_path_factory.mktemp("own") / "farm").root)


def test_each_fold_holds_out_its_own_classes(dataset: Dataset) -> None:
    info = dataset.info
    assert info.classes == CLASSES
    assert info.recipe == "synthetic"  # 60 pixels wide
    novel = [novel_classes(info, fold, FSSPLAT) for fold in range(4)]
    assert sorted(class_id for one in novel for class_id in one) == [1, 2, 3, 4]
    for fold, held_out in enumerate(novel):
        assert set(base_classes(info, fold, FSSPLAT)) == {1, 2, 3, 4} - set(held_out)
    assert novel_classes(info, 2, FSSPLAT, train_on="pascal-5i") == novel[2]
    with pytest.raises(InputError, match="fold 4: farm has folds 0 to 3"):
        novel_classes(info, 4, FSSPLAT)


def test_every_class_has_images_to_train_and_to_test(dataset: Dataset) -> None:
    assert dataset.info.counts["train"] + dataset.info.counts["val"] == 24
    for class_id in range(1, 5):
        assert len(dataset.rows_of(class_id, "val")) >= 6
        assert len(dataset.rows_of(class_id, "train")) >= 1


def test_the_class_with_fewer_pixels_is_on_top(dataset: Dataset) -> None:
    label = dataset.label(dataset.row_of("00"))  # cat of 20 x 20 under cow of 8 x 8
    assert label[6, 6] == CLASSES.index("cow") + 1
    assert label[20, 20] == CLASSES.index("cat") + 1
    assert int((label == 2).sum()) == 64
    assert int((label == 1).sum()) == 400 - 64


def test_folds_are_part_of_the_fingerprint_and_of_the_build(source: Path, tmp_path: Path) -> None:
    first = built(source, tmp_path / "a").info
    assert built(source, tmp_path / "a").info == first
    with pytest.raises(InputError, match="from other files or options is there already"):
        built(source, tmp_path / "a", folds="2")
    second = built(source, tmp_path / "a", overwrite=True, folds="2").info
    assert second.fingerprint != first.fingerprint
    assert len(second.folds) == 2


@pytest.mark.parametrize(
    ("text", "novel", "base"),
    [
        ("folds: [[cat, dog], [hen]]", [(1, 3), (4,)], [(2, 4), (1, 2, 3)]),
        ("{base: [cat], novel: [hen, dog]}", [(3, 4)], [(1,)]),
    ],
)
def test_folds_can_be_given(text: str, novel: Any, base: Any, tmp_path: Path) -> None:
    path = tmp_path / "folds.yaml"
    path.write_text(text)
    folds = folds_of(str(path), CLASSES, {}, 0)
    assert [fold.novel for fold in folds] == novel
    assert [fold.base for fold in folds] == base


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("folds: [[cot]]", r"class 'cot' is unknown\. Did you mean cat"),
        ("{base: [cat, dog], novel: [dog]}", "dog is base and novel"),
        ("folds: 3", "needed is `folds:"),
        ("folds: [cat]", "a fold is a list of classes"),
        ("folds: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_of_folds_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "folds.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        folds_of(str(path), CLASSES, {}, 0)


def test_classes_are_dealt_by_their_images() -> None:
    counts = {1: 100, 2: 90, 3: 20, 4: 10, 5: 5}
    folds = dealt(2, ["a", "b", "c", "d", "e"], counts, 0)
    assert [fold.novel for fold in folds] == [(1, 4, 5), (2, 3)]
    assert len(dealt(4, ["a", "b"], {}, 0)) == 2
    (only,) = dealt(4, ["a"], {}, 0)
    assert (only.novel, only.base) == ((1,), ())


def test_masks_without_names_are_named_and_other_formats_become_jpeg(tmp_path: Path) -> None:
    """A PNG picture that is stored sideways, with a mask of what is shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        place = tmp_path / "source" / "images" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(place, exif=exif)
        masks = tmp_path / "source" / "masks"
        masks.mkdir(exist_ok=True)
        turned = np.rot90(true_mask(), -1) * (7 if number % 2 else 9)
        Image.fromarray(np.ascontiguousarray(turned)).save(masks / f"{number}.png")
    with pytest.raises(InputError, match="the masks have the values 0, 7, 9"):
        built(tmp_path / "source", tmp_path / "none")
    choice = parsed_choice(["7=cat", "9=dog"])
    found = Dataset.open(built(tmp_path / "source", tmp_path / "out", choice=choice).root)
    assert found.info.classes == ("cat", "dog")
    assert found.image(0).shape == (WIDTH, HEIGHT, 3)
    assert set(np.unique(found.label(found.row_of("images_1")))) == {0, 1}


def test_remarks_name_what_makes_numbers_wrong(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    first = Image.open(folder / "00.jpg")
    for number in range(1, 24):  # 23 copies, whose quality differs
        first.save(folder / f"{number:02d}.jpg", quality=60 + number)
    dataset = Dataset.open(built(folder, tmp_path / "out", choice=parsed_choice(["cat"])).root)
    found = "\n".join(remarks(dataset, 2, lambda done, total: None))
    assert "12 of 24 images show no class: " in found
    assert "look alike, so that a score is too high: " in found
    assert "5-shot needs 6 test images of a class with 2,048 pixels" in found


def test_a_small_change_changes_few_bits_of_the_hash(source: Path) -> None:
    import io

    picture = Image.open(source / "00.jpg").resize((300, 200), Image.Resampling.BICUBIC)
    other = Image.open(source / "01.jpg")
    hashes = []
    for one, size, quality in ((picture, (300, 200), 95), (picture, (150, 100), 50),
                               (other, (300, 200), 95)):  # fmt: skip
        buffer = io.BytesIO()
        one.resize(size).save(buffer, format="JPEG", quality=quality)
        hashes.append(difference_hash(buffer.getvalue()))
    assert (hashes[0] ^ hashes[1]).bit_count() <= 4
    assert (hashes[0] ^ hashes[2]).bit_count() > 4
