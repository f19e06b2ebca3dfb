"""Images that cannot be used."""

import json
import zlib
from pathlib import Path

import pytest
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.index import Dataset
from tests.data.build.built_files import truncate_jpeg
from tests.fakes.official_layouts import noise_jpeg, square_label


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


def empty_image(voc: Path) -> None:
    (voc / "JPEGImages/t1.jpg").write_bytes(b"")


def replace_by_text(voc: Path) -> None:
    (voc / "JPEGImages/t1.jpg").write_text("<html>not found</html>")


def replace_by_animation(voc: Path) -> None:
    frames = [Image.new("P", (32, 24), colour) for colour in range(3)]
    frames[0].save(voc / "JPEGImages/t1.jpg", "GIF", save_all=True, append_images=frames[1:])


def link_to_itself(voc: Path) -> None:
    (voc / "JPEGImages/t1.jpg").unlink()
    (voc / "JPEGImages/t1.jpg").symlink_to("t1.jpg")


def replace_by_folder(voc: Path) -> None:
    (voc / "JPEGImages/t1.jpg").unlink()
    (voc / "JPEGImages/t1.jpg").mkdir()


def turn_label(voc: Path) -> None:
    """As a tool draws it that applies the image's EXIF block."""
    Image.fromarray(square_label(2, size=(32, 24))).save(voc / "SegmentationClass/t1.png")


def sixteen_bit_label(voc: Path) -> None:
    wide = square_label(2).astype("uint16")
    Image.fromarray(wide).save(voc / "SegmentationClass/t1.png")


def empty_label(voc: Path) -> None:
    (voc / "SegmentationClass/t1.png").write_bytes(b"")


BAD = {
    empty_image: r"JPEGImages/t1\.jpg: the image cannot be read \(the file is empty\)",
    replace_by_text: r"JPEGImages/t1\.jpg: the image cannot be read \(it is no picture\)",
    replace_by_animation: r"JPEGImages/t1\.jpg: .*the image is GIF, not JPEG",
    link_to_itself: r"JPEGImages/t1\.jpg: the image cannot be read",
    replace_by_folder: r"JPEGImages/t1\.jpg: the image cannot be read",
    turn_label: r"is 32 x 24 \(height x width\), .* is 24 x 32: one of them is turned \(EXIF",
    sixteen_bit_label: r"t1\.png: the label is a I;16 picture; a class-index PNG",
    empty_label: r"t1\.png: the label cannot be read",
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
