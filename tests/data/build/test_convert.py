"""A build: the bytes of its shards, and the folders that it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.build import build_folder, shard_plan
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.index import Dataset
from tests.data.build.built_files import contents
from tests.fakes.official_layouts import coco_layout


def test_shards_built_twice_are_identical_to_the_byte(source: Path, tmp_path: Path) -> None:
    build("pascal-5i", source, tmp_path / "one", BuildSettings(shard_samples=2))
    build("pascal-5i", source, tmp_path / "two", BuildSettings(shard_samples=2))
    assert len(contents(tmp_path / "one")) == 7  # 3 + 2 shards, index, dataset.json
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_shards_do_not_depend_on_the_number_of_workers(source: Path, tmp_path: Path) -> None:
    build("pascal-5i", source, tmp_path / "one", BuildSettings(shard_samples=2))
    build("pascal-5i", source, tmp_path / "two", BuildSettings(shard_samples=2, workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_shards_open_with_plain_webdataset(source: Path, tmp_path: Path) -> None:
    import webdataset

    build("pascal-5i", source, tmp_path / "built")
    dataset = Dataset.open(tmp_path / "built")
    paths = [str(path) for path in dataset.shard_paths("train")]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples] == dataset.keys[:6]
    for row, sample in enumerate(samples):
        assert (np.array(sample["jpg"]) == dataset.image(row)).all()
        grey = np.array(sample["png"])  # webdataset gives every picture three channels
        assert (grey == dataset.label(row)[..., None]).all()
        assert sample["json"]["split"] == "train"


def test_a_shard_holds_one_split_and_no_more_images_than_asked(
    source: Path, tmp_path: Path
) -> None:
    info = build("pascal-5i", source, tmp_path / "built", BuildSettings(shard_samples=4)).info
    assert [(shard.file, shard.samples) for shard in info.shards] == [
        ("train-000000.tar", 4),
        ("train-000001.tar", 2),
        ("val-000000.tar", 3),
    ]


def test_a_shard_holds_no_more_bytes_than_allowed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_plan, "SHARD_BYTES", 80_000)  # two images and what is set aside
    info = build("pascal-5i", source, tmp_path / "built").info
    assert [shard.samples for shard in info.shards] == [2, 2, 2, 2, 1]
    assert all(shard.bytes <= 80_000 for shard in info.shards)


def test_keys_have_no_dots(source: Path, tmp_path: Path) -> None:
    voc = source / "VOC2012"
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        (voc / folder / f"t0.{suffix}").rename(voc / folder / f"t0.new.{suffix}")
    names = (voc / "ImageSets/Segmentation/train.txt").read_text().replace("t0", "t0.new")
    (voc / "ImageSets/Segmentation/train.txt").write_text(names)
    (source / "SBD/dataset/train.txt").write_text("x0\n")
    build("pascal-5i", source, tmp_path / "built")
    assert Dataset.open(tmp_path / "built").keys[0] == "t0_new"


def test_two_images_with_one_key_are_refused(source: Path, tmp_path: Path) -> None:
    path = source / "VOC2012/ImageSets/Segmentation/train.txt"
    path.write_text("t.1\nt_1\n")
    with pytest.raises(InputError, match="has the key 't_1' too"):
        build("pascal-5i", source, tmp_path / "built")


def test_an_image_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    path = coco_layout(tmp_path / "coco", {}) / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "images": content["images"] * 2}))
    with pytest.raises(InputError, match=r"000000000002\.jpg: the source lists this image twice"):
        build("coco-20i", tmp_path / "coco", tmp_path / "built")


def test_two_builds_of_one_folder_do_not_meet(source: Path, tmp_path: Path) -> None:
    with (
        build_folder.only_build_in(tmp_path / "built"),
        pytest.raises(InputError, match="another build is running there"),
    ):
        build("pascal-5i", source, tmp_path / "built")


def test_a_bucket_is_no_place_to_build(source: Path) -> None:
    with pytest.raises(InputError, match=r"build into a local folder, then copy"):
        build("pascal-5i", source, Path("s3://bucket/pascal-5i"))


def test_an_unknown_name_leaves_no_folder_behind(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'pascal5i' is unknown\. Did you mean pascal-5i"):
        build("pascal5i", source, tmp_path / "built")
    assert not (tmp_path / "built").exists()


def test_a_folder_that_cannot_be_made_is_an_input_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        build("pascal-5i", source, tmp_path / "file" / "built")
