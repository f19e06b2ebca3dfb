"""Shards: their bytes, resuming, and images that cannot be used."""

import errno
import json
import os
import subprocess
import sys
import zlib
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.common.whole_files import SUFFIX
from fssplat.data import shards
from fssplat.data.build import build_folder, shard_plan, write_shards
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.index import Dataset
from fssplat.data.shards import Sample, write_shard
from fssplat.data.sources import record
from tests.fakes.official_layouts import (
    KillingLabel,
    coco_layout,
    noise_jpeg,
    save_sbd_label,
    square_label,
    voc_layout,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return voc_layout(tmp_path / "official")


def contents(folder: Path) -> dict[str, bytes]:
    """What a data set is made of; the lock and the report are not part of it."""
    names = ("dataset.json", "index.parquet", "*.tar")
    return {path.name: path.read_bytes() for name in names for path in folder.glob(name)}


# ---------------------------------------------------------------- bytes


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


# ---------------------------------------------------------------- going on, starting anew


def test_an_interrupted_build_keeps_its_finished_shards(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("pascal-5i", source, tmp_path / "whole", BuildSettings(shard_samples=2))
    convert_shard = write_shards.convert_shard

    def interrupted(shard: shard_plan.PlannedShard) -> write_shards.ShardResult:
        if shard.file == "train-000002.tar":
            raise KeyboardInterrupt
        return convert_shard(shard)

    with monkeypatch.context() as patch:
        patch.setattr(write_shards, "convert_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build("pascal-5i", source, tmp_path / "cut", BuildSettings(shard_samples=2))
    with pytest.raises(InputError, match=r"dataset\.json is missing"):
        Dataset.open(tmp_path / "cut")
    other = tmp_path / "cut" / "VOCtrainval_11-May-2012.tar"  # downloads may lie in the same folder
    other.write_bytes(b"an archive")
    assert (
        build("pascal-5i", source, tmp_path / "cut", BuildSettings(shard_samples=2)).shards_kept
        == 2
    )
    assert other.read_bytes() == b"an archive"
    other.unlink()
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_finished_shard_is_made_again_when_its_source_changed(
    source: Path, tmp_path: Path
) -> None:
    broken = source / "VOC2012/JPEGImages/t4.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    with pytest.raises(InputError, match="cannot be used"):
        build("pascal-5i", source, tmp_path / "built", BuildSettings(shard_samples=2))
    broken.write_bytes(whole)
    report = build("pascal-5i", source, tmp_path / "built", BuildSettings(shard_samples=2))
    assert report.shards_kept == 4  # all but the one with t4
    assert report.info.counts == {"train": 6, "val": 3}


def test_a_finished_data_set_is_left_alone(source: Path, tmp_path: Path) -> None:
    first = build("pascal-5i", source, tmp_path / "built")
    shard = tmp_path / "built/train-000000.tar"
    written = shard.stat().st_mtime_ns
    second = build("pascal-5i", source, tmp_path / "built")
    assert second.info == first.info
    assert shard.stat().st_mtime_ns == written


def touch_all(folder: Path) -> None:
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(1, 1))


def test_a_finished_data_set_stays_where_its_source_has_other_dates(
    source: Path, tmp_path: Path
) -> None:
    truncate_jpeg(source / "VOC2012")
    first = build("pascal-5i", source, tmp_path / "built", BuildSettings(skip_bad=True))
    written = (tmp_path / "built/train-000000.tar").stat().st_mtime_ns
    touch_all(source)
    read: list[tuple[int, int]] = []
    for looked_at in (9, 0):  # once: the new dates are kept
        read.clear()
        again = build(
            "pascal-5i",
            source,
            tmp_path / "built",
            BuildSettings(skip_bad=True),
            on_progress=lambda done, total: read.append((done, total)),
        )
        assert (again.info, again.bad) == (first.info, first.bad)
        assert len(read) == looked_at
    assert (tmp_path / "built/train-000000.tar").stat().st_mtime_ns == written


@pytest.mark.parametrize("change", ["image", "label", "split", "repaired"])
def test_a_source_with_other_content_is_another_data_set(
    source: Path, tmp_path: Path, change: str
) -> None:
    voc = source / "VOC2012"
    whole = (voc / "JPEGImages/t1.jpg").read_bytes()
    truncate_jpeg(voc)
    build("pascal-5i", source, tmp_path / "built", BuildSettings(skip_bad=True))
    if change == "image":  # as long as before
        content = (voc / "JPEGImages/t3.jpg").read_bytes()
        (voc / "JPEGImages/t3.jpg").write_bytes(content[:-3] + b"\x00" + content[-2:])
    elif change == "label":
        save_sbd_label(source / "SBD/dataset/cls/x0.mat", square_label(8, side=4))
    elif change == "split":
        for split, names in (("train", "t0\nt1\nt2\nt3\n"), ("val", "v0\nv1\nv2\nt4\n")):
            (voc / f"ImageSets/Segmentation/{split}.txt").write_text(names)
    else:
        (voc / "JPEGImages/t1.jpg").write_bytes(whole)
    with pytest.raises(InputError, match="from other files"):
        build("pascal-5i", source, tmp_path / "built", BuildSettings(skip_bad=True))


def test_a_data_set_from_other_files_is_replaced_only_on_request(
    source: Path, tmp_path: Path
) -> None:
    build("pascal-5i", source, tmp_path / "built", BuildSettings(shard_samples=2))
    other = voc_layout(tmp_path / "other", train=2, val=1)
    with pytest.raises(InputError, match=r"from other files.*--overwrite"):
        build("pascal-5i", other, tmp_path / "built")
    build("pascal-5i", other, tmp_path / "built", BuildSettings(overwrite=True))
    assert Dataset.open(tmp_path / "built").info.counts == {"train": 3, "val": 1}
    assert len(list((tmp_path / "built").glob("*.tar"))) == 2  # none of the old ones


def test_tars_of_somebody_else_are_left_alone(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "built"
    out.mkdir()
    others = [out / "imagenet-train-000147.tar", out / "train-000007.tar", out / "2024-000001.tar"]
    for path in others:
        path.write_bytes(b"the only copy")
    build("pascal-5i", source, out, BuildSettings(shard_samples=2))
    build("pascal-5i", source, out, BuildSettings(shard_samples=4, overwrite=True))
    assert [path.read_bytes() for path in others] == [b"the only copy"] * 3
    assert not (out / "train-000002.tar").exists()  # of the first build, which has more shards


def test_a_tar_of_somebody_else_in_a_shards_place_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "built"
    out.mkdir()
    (out / "val-000000.tar").write_bytes(b"the only copy")
    with pytest.raises(InputError, match=r"val-000000\.tar: a shard would be .* Move it away"):
        build("pascal-5i", source, out)
    assert [path.name for path in out.glob("*.tar")] == ["val-000000.tar"]
    assert (out / "val-000000.tar").read_bytes() == b"the only copy"


def test_shards_stay_ours_after_a_kill_or_without_a_readable_dataset_json(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill after a shard has its name leaves no note of what it holds."""
    out = tmp_path / "built"

    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write_shards, "write_file", killed)
        with pytest.raises(KeyboardInterrupt):
            build("pascal-5i", source, out)
    assert (out / "train-000000.tar").is_file()
    build("pascal-5i", source, out)
    (out / "dataset.json").write_text("{")
    build("pascal-5i", source, out, BuildSettings(overwrite=True))
    assert len(Dataset.open(out)) == 9


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
    with pytest.raises(InputError, match="'pascal5i' is unknown"):
        build("pascal5i", source, tmp_path / "built")
    assert not (tmp_path / "built").exists()


def test_a_folder_that_cannot_be_made_is_an_input_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        build("pascal-5i", source, tmp_path / "file" / "built")


# ---------------------------------------------------------------- images that cannot be used


def truncate_jpeg(voc: Path) -> None:
    path = voc / "JPEGImages/t1.jpg"
    path.write_bytes(path.read_bytes()[:-300])


def blank_the_end_of_a_jpeg(voc: Path) -> None:
    """As a download leaves it whose last block never came. Pillow decodes it, training does not."""
    path = voc / "JPEGImages/t1.jpg"
    path.write_bytes(path.read_bytes()[:-2] + bytes(64))


def enlarge_the_header_of_an_image(voc: Path) -> None:
    """30,000 x 30,000 pixels, as Pillow refuses to decode."""
    path = voc / "JPEGImages/t1.jpg"
    whole = path.read_bytes()
    size = whole.index(b"\xff\xc0") + 5
    path.write_bytes(whole[:size] + (30_000).to_bytes(2, "big") * 2 + whole[size + 4 :])


def enlarge_the_header_of_a_label(voc: Path) -> None:
    path = voc / "SegmentationClass/t1.png"
    whole = path.read_bytes()
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + whole[24:29]
    path.write_bytes(whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:])


def remove_image(voc: Path) -> None:
    (voc / "JPEGImages/t1.jpg").unlink()


def replace_by_png(voc: Path) -> None:
    Image.new("RGB", (32, 24)).save(voc / "JPEGImages/t1.jpg", "PNG")


def enlarge_label(voc: Path) -> None:
    Image.fromarray(square_label(2, size=(24, 33))).save(voc / "SegmentationClass/t1.png")


def label_outside(voc: Path) -> None:
    Image.fromarray(square_label(21)).save(voc / "SegmentationClass/t1.png")


def colour_label(voc: Path) -> None:
    Image.new("RGB", (32, 24)).save(voc / "SegmentationClass/t1.png")


def truncate_label(voc: Path) -> None:
    path = voc / "SegmentationClass/t1.png"
    path.write_bytes(path.read_bytes()[:-40])


def remove_label(voc: Path) -> None:
    (voc / "SegmentationClass/t1.png").unlink()


BAD = {
    truncate_jpeg: r"JPEGImages/t1\.jpg: the image cannot be read \(.*truncated",
    blank_the_end_of_a_jpeg: r"JPEGImages/t1\.jpg: .* cannot be read \(Image is incomplete or",
    enlarge_the_header_of_an_image: r"t1\.jpg: .* cannot be read \(Image size \(900000000 pixels\)",
    enlarge_the_header_of_a_label: r"t1\.png: .* cannot be read \(Image size \(900000000 pixels\)",
    remove_image: r"JPEGImages/t1\.jpg: the image is missing",
    replace_by_png: r"JPEGImages/t1\.jpg: .*the image is PNG, not JPEG",
    enlarge_label: r"t1\.png: the label of t1 is 24 x 33 \(height x width\), .* is 24 x 32",
    label_outside: r"t1\.png: the label of t1 has the value 21; classes are 1 to 20",
    colour_label: r"t1\.png: the label is a RGB picture; a class-index PNG",
    truncate_label: r"t1\.png: the label cannot be read",
    remove_label: r"t1\.png: the label cannot be read",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_an_image_that_cannot_be_used_ends_the_build(
    source: Path, tmp_path: Path, spoil: "type[None]"
) -> None:
    spoil(source / "VOC2012")
    with pytest.raises(InputError, match=BAD[spoil] + r".*report\.json lists them.*--skip-bad"):
        build("pascal-5i", source, tmp_path / "built")
    assert not (tmp_path / "built/dataset.json").exists()


def test_images_that_cannot_be_used_are_listed_and_left_out_on_request(
    source: Path, tmp_path: Path
) -> None:
    truncate_jpeg(source / "VOC2012")
    Image.fromarray(square_label(99)).save(source / "VOC2012/SegmentationClass/v0.png")
    report = build("pascal-5i", source, tmp_path / "built", BuildSettings(skip_bad=True))
    assert [item.key for item in report.bad] == ["t1", "v0"]
    listed = json.loads((tmp_path / "built/report.json").read_text())
    assert [item["key"] for item in listed["bad"]] == ["t1", "v0"]
    assert listed["images"] == 9
    dataset = Dataset.open(tmp_path / "built")
    assert dataset.keys == ["t0", "t2", "t3", "t4", "x0", "v1", "v2"]
    assert dataset.jpeg(1) == noise_jpeg(2)
    again = build("pascal-5i", source, tmp_path / "built", BuildSettings(skip_bad=True))
    assert again.bad == report.bad  # told again, not only the first time


def test_every_bad_image_is_listed_before_the_build_ends(source: Path, tmp_path: Path) -> None:
    for name in ("t0", "t3", "v1", "v2"):
        (source / f"VOC2012/JPEGImages/{name}.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"4 of 9 images cannot be used: .*; and 1 more\."):
        build("pascal-5i", source, tmp_path / "built", BuildSettings(shard_samples=2))
    listed = json.loads((tmp_path / "built/report.json").read_text())
    assert [item["key"] for item in listed["bad"]] == ["t0", "t3", "v1", "v2"]


def test_a_shard_without_a_usable_image_is_left_out(source: Path, tmp_path: Path) -> None:
    for name in ("t0", "t1"):
        (source / f"VOC2012/JPEGImages/{name}.jpg").write_bytes(b"no picture")
    info = build(
        "pascal-5i", source, tmp_path / "built", BuildSettings(shard_samples=2, skip_bad=True)
    ).info
    assert [shard.file for shard in info.shards] == [
        "train-000001.tar",
        "train-000002.tar",
        "val-000000.tar",
        "val-000001.tar",
    ]
    dataset = Dataset.open(tmp_path / "built")
    assert dataset.jpeg(dataset.row_of("t2")) == noise_jpeg(2)


def test_a_source_without_a_usable_image_is_no_data_set(source: Path, tmp_path: Path) -> None:
    for path in source.rglob("*.jpg"):
        path.write_bytes(b"no picture")
    message = r"pascal-5i: none of 9 images can be used; .*report\.json lists the reasons"
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            build("pascal-5i", source, tmp_path / "built", BuildSettings(skip_bad=True))
    assert len(json.loads((tmp_path / "built/report.json").read_text())["bad"]) == 9
    assert not (tmp_path / "built/dataset.json").exists()


# ---------------------------------------------------------------- full disks, dead workers


def full(path: Path) -> Iterator[Sample]:
    yield Sample("a", b"1", b"2", b"3")
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_full_disk_leaves_neither_a_shard_nor_a_part_of_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train-000000\.tar: the disk is full"):
        write_shard(tmp_path / "train-000000.tar", full(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").mkdir()
    with pytest.raises(InputError, match=r"000000\.tar: cannot be written \(Is a directory\)"):
        write_shard(tmp_path / "train-000000.tar", [Sample("a", b"1", b"2", b"3")])
    assert [path.name for path in tmp_path.iterdir()] == ["train-000000.tar"]


def test_a_disk_that_fills_up_during_the_build_ends_it_cleanly(
    source: Path, tmp_path: Path
) -> None:
    """A limit on the size of files makes real writes fail, in a process of its own."""
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from fssplat.data.build.convert import BuildSettings, build\n"
        "from fssplat.common.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))\n"
        "try:\n"
        "    build('pascal-5i', Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    out = tmp_path / "built"
    done = subprocess.run(
        [sys.executable, "-c", script, source, out], capture_output=True, text=True, check=True
    )
    assert "train-000000.tar: the disk is full" in done.stdout
    assert not list(out.glob("*.tar"))
    assert not list(out.glob(f".*{SUFFIX}"))
    assert not (out / "dataset.json").exists()
    build("pascal-5i", source, out)  # with room again
    assert len(Dataset.open(out)) == 9


def test_a_disk_without_room_is_refused_before_the_first_shard(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(100))
    with pytest.raises(InputError, match=r"the shards need more than .* are free"):
        build("pascal-5i", source, tmp_path / "built")


def test_a_file_that_cannot_be_written_whole_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(InputError, match="disk is full"):
        build_folder.write_file(tmp_path / "dataset.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_dies_ends_the_build_with_advice(tmp_path: Path) -> None:
    image = tmp_path / "image.jpg"
    image.write_bytes(noise_jpeg(0))
    deadly = record.Record("a", "train", image, KillingLabel(image), "test")
    plan = [
        shard_plan.PlannedShard(
            tmp_path, f"train-00000{number}.tar", (deadly,), 20, False, False, ""
        )
        for number in range(2)
    ]
    with pytest.raises(InputError, match="a worker of the build died"):
        list(write_shards.run_parallel(plan, workers=2))
    assert not list(tmp_path.glob("*.tar"))


def test_reading_a_shard_runs_no_shell() -> None:
    assert shards  # its import sets the switch before webdataset is imported
    assert os.environ["WDS_SECURE"] == "1"
