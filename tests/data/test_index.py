"""Rows and members of a data set, and errors at open."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.build.convert import build
from fssplat.data.index import Dataset
from tests.fakes.official_layouts import (
    SIZE,
    built_voc,
    fss_layout,
    noise_image,
    noise_jpeg,
    save_voc_pair,
    square_label,
    voc_layout,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return built_voc(tmp_path_factory.mktemp("tiny"))


def test_rows_are_sorted_by_split_then_key(tiny: Dataset) -> None:
    assert tiny.keys == ["t0", "t1", "t2", "t3", "t4", "x0", "v0", "v1", "v2"]
    assert list(tiny.splits) == ["train"] * 6 + ["val"] * 3
    assert len(tiny) == 9
    assert tiny.row_of("v1") == 7
    assert tiny.has("v1")
    assert not tiny.has("v9")


def test_a_rows_area_counts_its_labels_pixels(tiny: Dataset) -> None:
    for row in range(len(tiny)):
        label = tiny.label(row)
        for class_id in range(1, 21):
            assert tiny.area(row, class_id) == (label == class_id).sum()
        assert list(tiny.classes_of(row)) == [c for c in range(1, 21) if (label == c).any()]


def test_rows_of_keeps_to_the_split_and_the_least_area(tiny: Dataset) -> None:
    assert list(tiny.rows_of(1, "train")) == [0]
    assert list(tiny.rows_of(1, "val")) == [6]
    assert list(tiny.rows_of(7, "train", min_area=16)) == [5]  # x0: 4 x 4 pixels
    assert list(tiny.rows_of(7, "train", min_area=17)) == []
    assert list(tiny.rows_of(19, "train")) == []


def test_a_mask_is_one_zero_or_ignored(tiny: Dataset) -> None:
    row = tiny.row_of("t2")
    expected = square_label(3)
    expected[expected == 3] = 1
    assert (tiny.mask(row, 3) == expected).all()
    assert set(np.unique(tiny.mask(row, 4))) == {0, 255}
    assert (tiny.target(row, (9, 3)) == np.where(expected == 1, 2, expected)).all()


def test_a_member_is_the_original_file(tiny: Dataset) -> None:
    row = tiny.row_of("t4")
    assert tiny.jpeg(row) == noise_jpeg(4)
    assert tuple(tiny.sizes[row]) == SIZE
    assert tiny.details(row)["origin"] == "voc"
    assert tiny.details(row)["pixels"] == {"5": 64}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_an_image_is_rgb_whatever_the_jpeg_is(tmp_path: Path, mode: str) -> None:
    source = voc_layout(tmp_path / "official")
    (source / "VOC2012/JPEGImages/t0.jpg").write_bytes(noise_jpeg(0, mode=mode))
    build("pascal-5i", source, tmp_path / "built")
    image = Dataset.open(tmp_path / "built").image(0)
    assert image.shape == (*SIZE, 3)
    grey = noise_image(0).mean(axis=2)
    assert abs(image.mean() - grey.mean()) < 8  # CMYK is not read as its negative
    if mode == "L":
        assert (image[..., 0] == image[..., 1]).all()


def test_an_image_is_not_rotated_by_its_exif_block(tmp_path: Path) -> None:
    from PIL import Image

    source = voc_layout(tmp_path / "official")
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer would turn it by 90 degrees; its label was drawn unturned
    path = source / "VOC2012/JPEGImages/t0.jpg"
    Image.fromarray(noise_image(0)).save(path, exif=exif)
    build("pascal-5i", source, tmp_path / "built")
    assert Dataset.open(tmp_path / "built").image(0).shape == (*SIZE, 3)


def test_binary_labels_tell_class_255_from_ignored_pixels(tmp_path: Path) -> None:
    names = [f"class_{number}" for number in range(1, 257)]
    source = fss_layout(
        tmp_path / "fss", {"trn": names[:250], "val": names[250:255], "test": names[255:]}, images=1
    )
    build("fss-1000", source, tmp_path / "built")
    dataset = Dataset.open(tmp_path / "built")
    row = dataset.row_of("class_255_1")
    assert dataset.info.labels == "binary"
    assert list(dataset.classes_of(row)) == [255]
    assert dataset.area(row, 255) == 36
    assert (dataset.mask(row, 255) == 1).sum() == 36
    assert (dataset.mask(row, 255) == 255).sum() == 0
    assert dataset.mask(row, 1).max() == 0
    last = dataset.row_of("class_256_1")
    assert dataset.label(last).max() == 256
    assert dataset.splits[last] == "test"


def test_a_pickled_data_set_reads_the_same(tiny: Dataset) -> None:
    tiny.jpeg(0)  # a map is open, which cannot be pickled itself
    again = pickle.loads(pickle.dumps(tiny))
    assert again.keys == tiny.keys
    assert (again.image(3) == tiny.image(3)).all()


def test_the_fingerprint_follows_the_content(tmp_path: Path, tiny: Dataset) -> None:
    same = built_voc(tmp_path / "same")
    assert same.info.fingerprint == tiny.info.fingerprint
    source = voc_layout(tmp_path / "official")
    save_voc_pair(source / "VOC2012", "t0", 0, square_label(1, side=9))
    build("pascal-5i", source, tmp_path / "built")
    assert Dataset.open(tmp_path / "built").info.fingerprint != tiny.info.fingerprint


# ---------------------------------------------------------------- what cannot be opened


def copied(dataset: Dataset, folder: Path) -> Path:
    shutil.copytree(dataset.root, folder)
    return folder


def test_a_missing_data_set_names_the_command_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"fssplat data build pascal-5i --source FOLDER --out .*pascal-5i`"
    ):
        Dataset.open(tmp_path / "pascal-5i")


def test_a_shard_cut_short_is_refused_at_open(tmp_path: Path, tiny: Dataset) -> None:
    root = copied(tiny, tmp_path / "cut")
    shard = root / "train-000000.tar"
    os.truncate(shard, shard.stat().st_size - 512)
    with pytest.raises(InputError, match=r"train-000000.tar: the shard has [\d,]+ bytes, .*cut"):
        Dataset.open(root)


def test_a_missing_shard_is_refused_at_open(tmp_path: Path, tiny: Dataset) -> None:
    root = copied(tiny, tmp_path / "gone")
    (root / "val-000000.tar").unlink()
    with pytest.raises(InputError, match=r"val-000000.tar: this shard is missing"):
        Dataset.open(root)


def test_an_index_of_another_build_is_refused_at_open(tmp_path: Path, tiny: Dataset) -> None:
    source = voc_layout(tmp_path / "official", train=6)
    build("pascal-5i", source, tmp_path / "other")
    root = copied(tiny, tmp_path / "mixed")
    shutil.copy(tmp_path / "other" / "index.parquet", root)
    with pytest.raises(InputError, match="come from different builds"):
        Dataset.open(root)


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1"])
def test_a_broken_index_is_refused_at_open(tmp_path: Path, tiny: Dataset, content: bytes) -> None:
    root = copied(tiny, tmp_path / "broken")
    (root / "index.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"index.parquet: cut short or not Parquet"):
        Dataset.open(root)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9, 0.99])
def test_an_index_with_changed_bytes_is_refused_at_open(
    tmp_path: Path, tiny: Dataset, place: float
) -> None:
    root = copied(tiny, tmp_path / "broken")
    content = bytearray((root / "index.parquet").read_bytes())
    start = int(place * len(content))
    content[start : start + 40] = b"\xff" * len(content[start : start + 40])
    (root / "index.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"index\.parquet"):
        Dataset.open(root)


@pytest.mark.parametrize("name", ["dataset.json", "index.parquet"])
def test_what_cannot_be_read_is_an_input_error(tmp_path: Path, tiny: Dataset, name: str) -> None:
    root = copied(tiny, tmp_path / "broken")
    (root / name).unlink()
    (root / name).mkdir()
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(Is a directory\)"):
        Dataset.open(root)
    (root / name).rmdir()
    (root / name).symlink_to(root / name)
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(Too many levels"):
        Dataset.open(root)


def test_a_shard_that_cannot_be_read_is_an_input_error(tmp_path: Path, tiny: Dataset) -> None:
    root = copied(tiny, tmp_path / "broken")
    shard = root / "val-000000.tar"
    shard.unlink()
    shard.symlink_to(shard)
    with pytest.raises(InputError, match=r"val-000000\.tar: this shard cannot be read \(Too many"):
        Dataset.open(root)


@pytest.mark.parametrize("left", [0, 1])
def test_a_shard_that_dataset_json_lacks_is_noticed_at_open(
    tmp_path: Path, tiny: Dataset, left: int
) -> None:
    root = copied(tiny, tmp_path / "broken")
    values = json.loads((root / "dataset.json").read_text())
    values["shards"] = [values["shards"][left]]
    (root / "dataset.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"index\.parquet and the shards .* do not match"):
        Dataset.open(root)


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": 5},
        {"classes": "bus"},
        {"shards": [{"file": "a.tar", "bytes": "12", "samples": 1}]},
        {"class_counts": [1]},
        {"labels": "colours"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_field_of_another_type_in_dataset_json_is_refused(
    tmp_path: Path, tiny: Dataset, wrong: dict[str, object]
) -> None:
    root = copied(tiny, tmp_path / "broken")
    values = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**values, **wrong}))
    with pytest.raises(InputError, match=r"not a dataset.json of fssplat"):
        Dataset.open(root)


@pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 1}', "\udcff"])
def test_a_broken_dataset_json_is_refused(tmp_path: Path, tiny: Dataset, content: str) -> None:
    root = copied(tiny, tmp_path / "broken")
    (root / "dataset.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"not a dataset.json of fssplat"):
        Dataset.open(root)


def test_a_newer_format_is_refused(tmp_path: Path, tiny: Dataset) -> None:
    root = copied(tiny, tmp_path / "newer")
    values = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**values, "format_version": 99}))
    with pytest.raises(InputError, match="format version 99, this fssplat reads 1"):
        Dataset.open(root)


def test_members_that_moved_inside_a_shard_are_noticed_when_read(
    tmp_path: Path, tiny: Dataset
) -> None:
    root = copied(tiny, tmp_path / "moved")
    shard = root / "train-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[512:] + content[:512])  # as long as before
    with pytest.raises(InputError, match=r"t0\.jpg is not at byte .*index does not match"):
        Dataset.open(root).jpeg(0)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_picture_that_cannot_be_decoded_is_an_input_error(
    tmp_path: Path, tiny: Dataset, kind: str
) -> None:
    dataset = Dataset.open(copied(tiny, tmp_path / "damaged"))
    place = dataset.members(0)[f"t3.{kind}"]
    with (tmp_path / "damaged/train-000000.tar").open("r+b") as shard:
        shard.seek(place.offset + place.size // 2)
        shard.write(bytes(place.size - place.size // 2))
    row = dataset.row_of("t3")
    with pytest.raises(InputError, match=r"damaged: t3 cannot be decoded \(.*`fssplat data verify"):
        dataset.image(row) if kind == "jpg" else dataset.mask(row, 1)


def test_a_shard_that_goes_away_later_is_an_input_error(tmp_path: Path, tiny: Dataset) -> None:
    dataset = Dataset.open(copied(tiny, tmp_path / "leaving"))
    (tmp_path / "leaving/train-000000.tar").unlink()
    with pytest.raises(InputError, match="was removed while the data set was in use"):
        dataset.jpeg(0)
