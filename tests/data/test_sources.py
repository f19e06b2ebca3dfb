"""The official layouts: which image goes where, and what its label is."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.folds import classes_of_split
from fssplat.data.labels import class_pixels
from fssplat.data.sources import coco, default_source, fss1000, read_source, voc
from fssplat.data.sources.record import BadSampleError, Source, SourceOptions, safe_key
from tests.fakes.official_layouts import (
    SIZE,
    coco_layout,
    fss_layout,
    save_sbd_label,
    square_label,
    voc_layout,
)

PLAIN = SourceOptions()


def split_of(source: Source) -> dict[str, str]:
    return {record.key: record.split for record in source.records}


def test_an_unknown_data_set_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'pascal' is unknown. Known: pascal-5i, coco-20i"):
        read_source("pascal", tmp_path, PLAIN)


def test_downloads_go_where_builds_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSSPLAT_DATA", "/somewhere")
    assert default_source("pascal-5i") == Path("/somewhere/raw/pascal")
    assert default_source("synthetic", Path("/out")) == Path("/out/source")


@pytest.mark.parametrize(
    ("name", "key"), [("2007_000032", "2007_000032"), ("a.b c", "a_b_c"), ("x" * 200, "x" * 90)]
)
def test_a_key_has_no_dot_and_fits_a_tar_header(name: str, key: str) -> None:
    assert safe_key(name) == key


# ---------------------------------------------------------------- VOC and SBD


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


def test_sbd_images_may_lie_with_vocs(tmp_path: Path) -> None:
    layout = voc_layout(tmp_path)
    (layout / "SBD/dataset/img/x0.jpg").rename(layout / "VOC2012/JPEGImages/x0.jpg")
    record = next(item for item in voc.read(layout, PLAIN).records if item.key == "x0")
    assert record.image == layout / "VOC2012/JPEGImages/x0.jpg"


def test_a_folder_without_sbd_says_what_is_missing(tmp_path: Path) -> None:
    layout = voc_layout(tmp_path)
    (layout / "SBD").rename(layout / "other")
    with pytest.raises(InputError, match=r"no SBD there; looked for cls .*data download pascal"):
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
    with pytest.raises(BadSampleError, match=r"x\.mat: the label (has values|is no plane)"):
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
    (fss_layout(tmp_path / "fss", LISTS) / "test.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"test\.txt: not a list of names in UTF-8"):
        fss1000.read(tmp_path / "fss", PLAIN)


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


# ---------------------------------------------------------------- COCO


def rectangle(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    """A polygon around whole pixels."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def drawn(folder: Path) -> dict[str, np.ndarray]:
    source = coco.read(folder, PLAIN)
    return {record.split: record.label.read() for record in source.records}


def test_a_later_object_covers_an_earlier_one(tmp_path: Path) -> None:
    small, large = rectangle(4, 4, 8, 8), rectangle(0, 0, 12, 12)
    folder = coco_layout(
        tmp_path,
        {
            "train": [
                {"category_id": 2, "segmentation": large},
                {"category_id": 160, "segmentation": small},
            ],
            "val": [
                {"category_id": 160, "segmentation": small},
                {"category_id": 2, "segmentation": large},
            ],
        },
    )
    labels = drawn(folder)
    assert class_pixels(labels["train"]) == {1: 144 - 16, 80: 16}
    assert class_pixels(labels["val"]) == {1: 144}  # whatever its size


def test_crowds_are_ignored_and_lie_below_every_object(tmp_path: Path) -> None:
    inside = np.zeros(SIZE, dtype=np.uint8)
    inside[:10, :10] = 1
    flat = inside.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    crowd = {"size": list(SIZE), "counts": [int(run) for run in counts]}
    folder = coco_layout(
        tmp_path,
        {
            "train": [
                {"category_id": 4, "segmentation": rectangle(0, 0, 4, 4)},
                {"category_id": 6, "segmentation": crowd, "iscrowd": 1},
            ]
        },
    )
    label = drawn(folder)["train"]
    assert class_pixels(label) == {2: 16}
    assert (label == 255).sum() == 100 - 16


def test_compressed_rle_is_read(tmp_path: Path) -> None:
    from pycocotools import mask

    inside = np.asfortranarray(square_label(1) == 1).astype(np.uint8)
    rle = mask.encode(np.asfortranarray(inside))
    folder = coco_layout(
        tmp_path,
        {
            "train": [
                {
                    "category_id": 2,
                    "segmentation": {"size": list(SIZE), "counts": rle["counts"].decode()},
                }
            ]
        },
    )
    assert class_pixels(drawn(folder)["train"]) == {1: 64}


def test_classes_are_numbered_by_category_id(tmp_path: Path) -> None:
    classes = coco.read(coco_layout(tmp_path, {}), PLAIN).classes
    assert len(classes) == 80
    assert (classes[0], classes[79]) == ("thing 1", "thing 80")


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_both_layouts_give_one_image_one_key(tmp_path: Path, year: str) -> None:
    source = coco.read(coco_layout(tmp_path, {}, year), PLAIN)
    assert split_of(source) == {"000000000001": "train", "000000000002": "val"}
    assert source.year == year
    assert all(record.image.is_file() for record in source.records)


def test_two_layouts_in_one_folder_need_a_choice(tmp_path: Path) -> None:
    coco_layout(coco_layout(tmp_path, {}, "2014"), {}, "2017")
    with pytest.raises(InputError, match="Choose with --year 2014 or 2017"):
        coco.read(tmp_path, PLAIN)
    assert coco.read(tmp_path, SourceOptions(year="2014")).year == "2014"
    with pytest.raises(InputError, match="--year 2015"):
        coco.read(tmp_path, SourceOptions(year="2015"))


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"category_id": 5, "segmentation": rectangle(0, 0, 2, 2)}, "category 5 is not a category"),
        ({"category_id": 2, "segmentation": [[1, 1, 2, 2]]}, "fewer than three corners"),
        ({"category_id": 2, "segmentation": {"size": [2, 2], "counts": [0, 4]}}, "an RLE is 2 x 2"),
        ({"category_id": 2, "segmentation": {"size": [2, 2]}}, "a segmentation cannot be read"),
    ],
)
def test_an_annotation_that_cannot_be_drawn_is_a_bad_sample(
    tmp_path: Path, instance: dict[str, object], message: str
) -> None:
    folder = coco_layout(tmp_path, {"train": [instance]})
    with pytest.raises(BadSampleError, match=message):
        drawn(folder)


def test_annotations_that_are_not_cocos_are_input_errors(tmp_path: Path) -> None:
    folder = coco_layout(tmp_path, {})
    path = folder / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    for broken, message in (
        ("{", "cut short or not JSON"),
        ("[]", "not COCO's instances"),
        (json.dumps({**content, "categories": []}), "0 categories"),
        (json.dumps({**content, "annotations": [{"image_id": 77}]}), "not COCO's instances"),
    ):
        path.write_text(broken)
        with pytest.raises(InputError, match=message):
            coco.read(folder, PLAIN)
    path.unlink()
    with pytest.raises(InputError, match="this file is missing"):
        coco.read(folder, PLAIN)
    with pytest.raises(InputError, match="data download coco"):
        coco.read(tmp_path / "nowhere", PLAIN)


@pytest.mark.parametrize("side", ["24", 24.0, None, -24, 0, True])
def test_a_side_that_is_no_number_of_pixels_is_an_input_error(tmp_path: Path, side: object) -> None:
    path = coco_layout(tmp_path, {}) / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"][0]["height"] = side
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"val2017\.json: .*image 2 has height"):
        coco.read(tmp_path, PLAIN)


def test_painting_in_file_order_gives_the_public_lists(shared: Path) -> None:
    """HSNet lists an image for a class from 2,048 pixels on; its masks are drawn a little fuller.

    So it may list what we find just below, and nothing of ours may be missing there.
    """
    public: dict[str, set[int]] = {}
    for path in sorted((shared / "data/lists/hsnet/coco").glob("*/fold*.pkl")):
        for zero_based, names in pickle.loads(path.read_bytes()).items():
            for name in names:
                public.setdefault(Path(name).stem[-12:], set()).add(zero_based + 1)
    source = read_source("coco-20i", shared / "data/coco_mini", PLAIN)
    agreed = 0
    for record in source.records:
        pixels = class_pixels(record.label.read())
        ours = {class_id for class_id, count in pixels.items() if count >= 2048}
        theirs = public.get(record.key, set())
        assert ours <= theirs, record.key
        assert all(pixels[class_id] > 1850 for class_id in theirs - ours), record.key
        agreed += len(ours)
    assert agreed == 588


# ---------------------------------------------------------------- FSS-1000

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


def test_an_fss_mask_of_too_many_pixels_is_a_bad_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadSampleError, match=r"the label cannot be read .*Image size"):
        fss1000.read(fss_layout(tmp_path, LISTS), PLAIN).records[0].label.read()


def test_fss_lists_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path / "fss", LISTS)
    (tmp_path / "lists").mkdir()
    for name in LISTS:
        (folder / f"{name}.txt").rename(tmp_path / "lists" / f"{name}.txt")
    with pytest.raises(InputError, match=r"no class lists there; .*--lists"):
        fss1000.read(folder, PLAIN)
    assert len(fss1000.read(folder, SourceOptions(lists=tmp_path / "lists")).records) == 8


def test_fss_classes_without_a_folder_are_named(tmp_path: Path) -> None:
    folder = fss_layout(tmp_path, LISTS)
    (folder / "val.txt").write_text("cat\nyak\n")
    with pytest.raises(InputError, match=r"1 of 5 listed classes have no folder there \(yak\)"):
        fss1000.read(folder, PLAIN)
    (folder / "val.txt").write_text("cat\nbus\n")
    with pytest.raises(InputError, match="bus stands there twice"):
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
