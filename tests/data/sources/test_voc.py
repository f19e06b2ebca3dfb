"""VOC2012 and SBD: which image goes into which split, and what its label is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.masks.labels import class_pixels
from fssplat.data.sources import read_source, voc
from fssplat.data.sources.record import BadSampleError, Source, SourceOptions
from tests.fakes.official_layouts import coco_layout, save_sbd_label, square_label, voc_layout

PLAIN = SourceOptions()


def split_of(source: Source) -> dict[str, str]:
    return {record.key: record.split for record in source.records}


def test_training_is_voc_train_and_sbd_without_voc_val(tmp_path: Path) -> None:
    source = voc.read(voc_layout(tmp_path), PLAIN)
    assert split_of(source) == {
        **dict.fromkeys(["t0", "t1", "t2", "t3", "t4", "x0"], "train"),
        **dict.fromkeys(["v0", "v1", "v2"], "val"),  # v0 is in SBD too
    }
    assert source.notes == ("1 SBD images are in VOC val and stay out of training",)


def test_an_image_in_both_keeps_vocs_label(tmp_path: Path) -> None:
    source = voc.read(voc_layout(tmp_path), PLAIN)
    labels = {record.key: record.label.read() for record in source.records}
    origins = {record.key: record.origin for record in source.records}
    assert class_pixels(labels["t0"]) == {1: 64}
    assert (labels["t0"] == 255).sum() == 8  # VOC has borders
    assert class_pixels(labels["x0"]) == {7: 16}
    assert (origins["t0"], origins["x0"]) == ("voc", "sbd")


@pytest.mark.parametrize("place", ["VOCdevkit/VOC2012", "VOC2012"])
@pytest.mark.parametrize("sbd", ["benchmark_RELEASE/dataset", "SBD"])
def test_the_archives_folders_are_found(tmp_path: Path, place: str, sbd: str) -> None:
    layout = voc_layout(tmp_path / "layout")
    other = tmp_path / "other"
    for old, new in (("VOC2012", place), ("SBD/dataset", sbd)):
        (other / new).parent.mkdir(parents=True, exist_ok=True)
        (layout / old).rename(other / new)
    assert len(voc.read(other, PLAIN).records) == 9


def aug_layout(folder: Path) -> Path:
    """VOC2012 with SegmentationClassAug (t0, x0, v0), as few-shot repositories pass it on."""
    layout = voc_layout(folder)
    place = layout / "VOC2012"
    (layout / "SBD/dataset/img/x0.jpg").rename(place / "JPEGImages/x0.jpg")
    (layout / "SBD").rename(layout / "elsewhere")
    (place / "SegmentationClassAug").mkdir()
    for name in ("t0", "x0", "v0"):
        Image.fromarray(square_label(9)).save(place / f"SegmentationClassAug/{name}.png")
    return layout


def test_labels_in_segmentation_class_aug_take_the_place_of_sbd(tmp_path: Path) -> None:
    source = voc.read(aug_layout(tmp_path), PLAIN)
    labels = {record.key: record.label.read() for record in source.records}
    assert split_of(source) == {
        **dict.fromkeys(["t0", "t1", "t2", "t3", "t4", "x0"], "train"),
        **dict.fromkeys(["v0", "v1", "v2"], "val"),
    }
    assert class_pixels(labels["x0"]) == {9: 64}
    assert class_pixels(labels["t0"]) == {1: 64}  # of SegmentationClass
    assert source.source == "VOC2012 train and val, SegmentationClassAug"
    assert all(record.image.is_file() for record in source.records)


def test_all_labels_may_be_in_segmentation_class_aug(tmp_path: Path) -> None:
    place = aug_layout(tmp_path) / "VOC2012"
    (place / "SegmentationClass").rename(place / "unused")
    labels = {record.key: record.label for record in voc.read(tmp_path, PLAIN).records}
    assert class_pixels(labels["t0"].read()) == {9: 64}


def test_sbd_goes_before_segmentation_class_aug(tmp_path: Path) -> None:
    layout = aug_layout(tmp_path)
    (layout / "elsewhere").rename(layout / "SBD")
    labels = {record.key: record.label.read() for record in voc.read(layout, PLAIN).records}
    assert class_pixels(labels["x0"]) == {7: 16}


def test_an_empty_segmentation_class_aug_is_named(tmp_path: Path) -> None:
    layout = aug_layout(tmp_path)
    for path in (layout / "VOC2012/SegmentationClassAug").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="SegmentationClassAug: no PNG labels there"):
        voc.read(layout, PLAIN)


def test_a_palette_in_another_order_than_vocs_is_a_bad_sample(tmp_path: Path) -> None:
    """As image editors save it: value 1 has the colour that VOC gives to class 9."""
    path = tmp_path / "x.png"
    colours = voc.voc_palette()
    for palette, value in ((colours, 9), ([i // 3 for i in range(768)], 9), (colours, 255)):
        picture = Image.fromarray(square_label(value), "P")
        picture.putpalette(palette)
        picture.save(path)
        assert (voc.PngLabel(path).read() == square_label(value)).all()
    picture = Image.fromarray(square_label(1), "P")
    picture.putpalette([*colours[:3], *colours[27:30]])
    picture.save(path)
    with pytest.raises(BadSampleError, match=r"value 1 the colour of class 9 \(chair\)"):
        voc.PngLabel(path).read()


def test_voc_lists_may_have_a_byte_order_mark_crlf_and_blanks(tmp_path: Path) -> None:
    layout = voc_layout(tmp_path)
    plain = voc.read(layout, PLAIN).records
    path = layout / "VOC2012/ImageSets/Segmentation/val.txt"
    path.write_bytes(b"\xef\xbb\xbfv0 \r\nv1\t\r\nv2\r\n\r\n")
    assert voc.read(layout, PLAIN).records == plain


@pytest.mark.parametrize("name", ["../v0", "/JPEGImages/v0.jpg", "..", "v\x1b[0m"])
def test_voc_lists_have_names_and_no_paths(tmp_path: Path, name: str) -> None:
    path = voc_layout(tmp_path) / "VOC2012/ImageSets/Segmentation/val.txt"
    path.write_text(f"v1\n{name}\n")
    with pytest.raises(InputError, match=r"val\.txt: .* cannot be used as a file name"):
        voc.read(tmp_path, PLAIN)


def test_sbd_images_may_lie_with_vocs(tmp_path: Path) -> None:
    layout = voc_layout(tmp_path)
    (layout / "SBD/dataset/img/x0.jpg").rename(layout / "VOC2012/JPEGImages/x0.jpg")
    record = next(item for item in voc.read(layout, PLAIN).records if item.key == "x0")
    assert record.image == layout / "VOC2012/JPEGImages/x0.jpg"


def test_a_folder_without_sbd_says_what_is_missing(tmp_path: Path) -> None:
    layout = voc_layout(tmp_path)
    (layout / "SBD").rename(layout / "other")
    with pytest.raises(
        InputError, match=r"no SBD or VOC2012/SegmentationClassAug there; .*data download"
    ):
        voc.read(layout, PLAIN)


@pytest.mark.parametrize(
    "content", [b"", b"no MATLAB file", b"MATLAB 5.0 MAT-file, cut" + b" " * 110]
)
def test_a_broken_mat_file_is_a_bad_sample(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(BadSampleError, match=r"x\.mat: the label"):
        voc.MatLabel(path).read()


def test_a_mat_file_cut_short_is_a_bad_sample(tmp_path: Path) -> None:
    path = voc_layout(tmp_path) / "SBD/dataset/cls/x0.mat"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadSampleError, match=r"x0\.mat: the label"):
        voc.MatLabel(path).read()


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 257]], dtype=np.uint16),
        np.array([[0, -1]], dtype=np.int16),
        np.array([[0, 1.5]]),
        np.array([[0, np.nan]]),
        np.ones((2, 2, 3), dtype=np.uint8),
        np.array([["a", "b"]]),
    ],
    ids=["large", "negative", "fraction", "nan", "colours", "text"],
)
def test_a_mat_label_that_bytes_cannot_hold_is_a_bad_sample(
    tmp_path: Path, values: np.ndarray
) -> None:
    save_sbd_label(tmp_path / "x.mat", values)
    with pytest.raises(BadSampleError, match=r"x\.mat: the label (has values|is not an array)"):
        voc.MatLabel(tmp_path / "x.mat").read()


@pytest.mark.parametrize("kind", [np.int32, np.float64])
def test_a_mat_label_may_be_of_any_number_type(tmp_path: Path, kind: type) -> None:
    save_sbd_label(tmp_path / "x.mat", square_label(7).astype(kind))
    assert (voc.MatLabel(tmp_path / "x.mat").read() == square_label(7)).all()


def test_a_mat_file_of_matlab_7_3_is_a_bad_sample(tmp_path: Path) -> None:
    path = voc_layout(tmp_path) / "SBD/dataset/cls/x0.mat"
    content = path.read_bytes()
    path.write_bytes(content[:124] + b"\x00\x02IM" + content[128:])
    with pytest.raises(BadSampleError, match=r"x0\.mat: MATLAB 7\.3, SBD's files are 5\.0"):
        voc.MatLabel(path).read()


def test_a_list_that_is_not_text_is_an_input_error(tmp_path: Path) -> None:
    path = voc_layout(tmp_path / "voc") / "VOC2012/ImageSets/Segmentation/val.txt"
    path.write_bytes(b"v0\n\xff\xfe\n")
    with pytest.raises(InputError, match=r"val\.txt: not a list of names in UTF-8"):
        voc.read(tmp_path / "voc", PLAIN)


def test_a_source_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    path = coco_layout(tmp_path, {}) / "annotations/instances_val2017.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"val2017\.json: cannot be read \(Is a directory\)"):
        read_source("coco-20i", tmp_path, PLAIN)


def test_voc_mini_holds_what_its_lists_say(shared: Path) -> None:
    source = read_source("pascal-5i", shared / "data/voc_mini", PLAIN)
    splits = list(split_of(source).values())
    assert (splits.count("train"), splits.count("val")) == (48 + 46, 89)
    assert sum(record.origin == "sbd" for record in source.records) == 46
