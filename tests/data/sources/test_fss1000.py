"""FSS-1000: class lists, class numbers and binary masks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.folds import classes_of_split
from fssplat.data.masks.labels import class_pixels
from fssplat.data.sources import fss1000
from fssplat.data.sources.record import BadSampleError, Source, SourceOptions
from tests.fakes.official_layouts import fss_layout

PLAIN = SourceOptions()


def split_of(source: Source) -> dict[str, str]:
    return {record.key: record.split for record in source.records}


LISTS = {"trn": ["bus", "ant"], "val": ["cat"], "test": ["dog"]}


def test_fss_classes_are_numbered_in_the_order_of_the_lists(tmp_path: Path) -> None:
    source = fss1000.read(fss_layout(tmp_path, LISTS), PLAIN)
    assert source.classes == ("bus", "ant", "cat", "dog")
    assert source.labels == "binary"
    assert [(r.key, r.split, r.object_class) for r in source.records][2:6] == [
        ("ant_1", "train", 2),
        ("ant_2", "train", 2),
        ("cat_1", "val", 3),
        ("cat_2", "val", 3),
    ]


def test_fss_masks_are_binarised_at_128(tmp_path: Path) -> None:
    label = fss1000.read(fss_layout(tmp_path, LISTS), PLAIN).records[0].label.read()
    assert class_pixels(label) == {1: 36}  # 127 is background, 128 is not
    with pytest.raises(BadSampleError, match="the label is missing"):
        fss1000.BinaryLabel(tmp_path / "none.png").read()


@pytest.mark.parametrize("value", [1, 17, 255])
def test_an_fss_mask_may_have_any_value_beside_0(tmp_path: Path, value: int) -> None:
    inside = np.zeros((24, 32), dtype=np.uint8)
    inside[:6, :6] = 1
    Image.fromarray(inside * value).save(tmp_path / "1.png")
    assert (fss1000.BinaryLabel(tmp_path / "1.png").read() == inside).all()


def test_an_fss_mask_of_no_object_is_named_and_left_out_on_request(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path / "fss", LISTS)
    for number, value in ((1, 0), (2, 255)):
        Image.new("L", (32, 24), value).save(folder / f"bus/{number}.png")
    message = r"bus/1\.png: the mask has the value 0 \(no object\).*bus/2\.png: .* \(no backgr"
    with pytest.raises(InputError, match=message):
        build("fss-1000", folder, tmp_path / "built")
    report = build("fss-1000", folder, tmp_path / "built", BuildSettings(skip_bad=True))
    assert [item.key for item in report.bad] == ["bus_1", "bus_2"]


def test_a_stray_jpeg_beside_an_annotated_jpg_is_left_out_and_named(tmp_path: Path) -> None:
    """As in FSS-1000 as published: banana_boat/1.jpeg beside 1.jpg."""
    folder = fss_layout(tmp_path, LISTS)
    plain = fss1000.read(folder, PLAIN)
    shutil.copy(folder / "ant/2.jpg", folder / "ant/1.jpeg")
    shutil.copy(folder / "ant/2.jpg", folder / "ant/7.JPEG")  # no mask
    source = fss1000.read(folder, PLAIN)
    assert source.records == plain.records
    assert source.notes == (
        "ant/1.jpeg is a .jpeg beside the annotated .jpg and was left out",
        "ant/7.JPEG is a .jpeg beside the annotated .jpg and was left out",
    )


def test_fss_lists_may_have_a_byte_order_mark_crlf_and_blanks(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path, LISTS)
    plain = fss1000.read(folder, PLAIN)
    (folder / "trn.txt").write_bytes(b"\xef\xbb\xbfbus  \r\nant\t\r\n\r\n")
    assert fss1000.read(folder, PLAIN).records == plain.records


@pytest.mark.parametrize("name", ["../secret", "/etc", "..", "a/b", "a\0b"])
def test_an_fss_list_names_folders_inside_the_source(tmp_path: Path, name: str) -> None:
    folder = fss_layout(tmp_path, LISTS)
    (folder / "val.txt").write_text(f"cat\n{name}\n")
    with pytest.raises(InputError, match=r"val\.txt: .* cannot be used as a file name"):
        fss1000.read(folder, PLAIN)


def test_an_fss_mask_of_too_many_pixels_is_a_bad_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadSampleError, match=r"the mask cannot be read .*Image size"):
        fss1000.read(fss_layout(tmp_path, LISTS), PLAIN).records[0].label.read()


def test_fss_lists_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path / "fss", LISTS)
    (tmp_path / "lists").mkdir()
    for name in LISTS:
        (folder / f"{name}.txt").rename(tmp_path / "lists" / f"{name}.txt")
    with pytest.raises(InputError, match=r"no class lists there .*--lists"):
        fss1000.read(folder, PLAIN)
    assert len(fss1000.read(folder, SourceOptions(lists=tmp_path / "lists")).records) == 8


def test_fss_classes_without_a_folder_are_named(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path, LISTS)
    (folder / "val.txt").write_text("cat\nyak\n")
    with pytest.raises(InputError, match=r"1 of 5 listed classes have no folder there \(yak\)"):
        fss1000.read(folder, PLAIN)
    (folder / "val.txt").write_text("cat\nbus\n")
    with pytest.raises(InputError, match="bus is listed twice"):
        fss1000.read(folder, PLAIN)


def test_fss_images_may_end_in_jpeg_in_any_case(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path, LISTS)
    plain = fss1000.read(folder, PLAIN)
    for name, suffix in (("bus", ".JPG"), ("ant", ".jpeg"), ("cat", ".JPEG")):
        (folder / name / "1.jpg").rename(folder / name / f"1{suffix}")
    source = fss1000.read(folder, PLAIN)
    assert split_of(source) == split_of(plain)
    assert all(record.image.is_file() for record in source.records)


def test_a_listed_fss_class_without_an_image_is_named(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path, LISTS)
    for image in (folder / "ant").glob("*.jpg"):
        image.rename(image.with_suffix(".bmp"))
    with pytest.raises(InputError, match=r"the listed class ant has no image \(\.jpg, \.jpeg\)"):
        fss1000.read(folder, PLAIN)


def test_fss_classes_keep_their_split_where_all_their_images_are_bad(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path / "fss", LISTS)
    assert fss1000.read(folder, PLAIN).class_counts == {"train": 2, "val": 1, "test": 1}
    for image in (folder / "bus").glob("*.jpg"):
        image.write_bytes(b"no picture")
    info = build("fss-1000", folder, tmp_path / "built", BuildSettings(skip_bad=True)).info
    assert classes_of_split(info, "test") == (4,)  # dog


def test_fss_folders_in_no_list_are_noted(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path, LISTS)
    (folder / "yak").mkdir()
    assert fss1000.read(folder, PLAIN).notes == ("class folder yak is in no list and was left out",)


def test_the_public_fss_lists_split_1000_classes(shared: Path) -> None:
    splits = fss1000.read_lists((shared / "data/lists/hsnet/fss",))
    assert {split: len(names) for split, names in splits.items()} == {
        "train": 520,
        "val": 240,
        "test": 240,
    }


def test_an_fss_list_that_is_not_text_is_an_input_error(tmp_path: Path) -> None:
    (fss_layout(tmp_path / "fss", LISTS) / "test.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"test\.txt: not a list of names in UTF-8"):
        fss1000.read(tmp_path / "fss", PLAIN)
