"""MS COCO: how instances become one label, and files that are refused."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.masks.labels import class_pixels
from fssplat.data.sources import coco, read_source
from fssplat.data.sources.record import BadSampleError, Source, SourceOptions
from tests.fakes.official_layouts import SIZE, coco_layout, square_label

PLAIN = SourceOptions()


def split_of(source: Source) -> dict[str, str]:
    return {record.key: record.split for record in source.records}


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
    with pytest.raises(InputError, match="Choose one with --year 2014 or 2017"):
        coco.read(tmp_path, PLAIN)
    assert coco.read(tmp_path, SourceOptions(year="2014")).year == "2014"
    with pytest.raises(InputError, match="--year 2015"):
        coco.read(tmp_path, SourceOptions(year="2015"))


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (
            {"category_id": 5, "segmentation": rectangle(0, 0, 2, 2)},
            "category 5 is not in the file",
        ),
        ({"category_id": 2, "segmentation": [[1, 1, 2, 2]]}, "fewer than three corners"),
        ({"category_id": 2, "segmentation": {"size": [2, 2], "counts": [0, 4]}}, "an RLE is 2 x 2"),
        (
            {"category_id": 2, "segmentation": {"size": [2, 2]}},
            "neither a list of polygons nor an RLE",
        ),
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


def test_a_size_that_no_jpeg_has_is_a_bad_sample_before_memory_is_taken(tmp_path: Path) -> None:
    path = coco_layout(tmp_path, {}) / "annotations/instances_train2017.json"
    whole = json.loads(path.read_text())
    for height, width in ((10**9, 10**9), (65_536, 1), (20_000, 20_000), (10**30, 1)):
        whole["images"][0] |= {"height": height, "width": width}
        path.write_text(json.dumps(whole))
        with pytest.raises(BadSampleError, match=r"train2017\.json: image 1: its height \d+ and"):
            drawn(tmp_path)


DAMAGED = {
    "[" * 200_000: "nested too deeply for COCO",
    "[1, 2]": "not COCO's instances",
    "null": "not COCO's instances",
    "\udcff\udcfe": "cut short or not JSON",
    '{"images": [], "categories": 5, "annotations": []}': "not COCO's instances",
    '{"images": 5, "categories": [], "annotations": []}': "not COCO's instances",
    '{"images": [], "categories": [{"id": Infinity}], "annotations": []}': "not COCO's instances",
    '{"images": [], "categories": [], "annotations": ["x"]}': "not COCO's instances",
}


@pytest.mark.parametrize(("text", "message"), DAMAGED.items(), ids=lambda text: ascii(text)[:30])
def test_a_file_that_is_not_cocos_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = coco_layout(tmp_path, {}) / "annotations/instances_train2017.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=rf"train2017\.json: .*{message}") as caught:
        coco.read(tmp_path, PLAIN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_name": "../../val2017/x.jpg"}, "image 1: '../../val2017/x.jpg' cannot be used"),
        ({"file_name": "/etc/passwd"}, "image 1: '/etc/passwd' cannot be used"),
        ({"file_name": "a\nb.jpg"}, "cannot be used as a file name"),
        ({"file_name": None}, "image 1: None cannot be used"),
        ({"id": -1}, "an image has the id -1"),
        ({"id": 10**12}, "an image has the id 1000000000000"),
        ({"id": "1"}, "an image has the id '1'"),
    ],
)
def test_an_image_whose_name_or_id_cannot_be_right_is_named(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = coco_layout(tmp_path, {}) / "annotations/instances_train2017.json"
    whole = json.loads(path.read_text())
    whole["images"][0] |= change
    path.write_text(json.dumps(whole))
    with pytest.raises(InputError, match=re.escape(message)):
        coco.read(tmp_path, PLAIN)


def test_categories_and_annotations_have_to_fit_each_other(tmp_path: Path) -> None:
    path = coco_layout(tmp_path, {}) / "annotations/instances_train2017.json"
    whole = json.loads(path.read_text())
    categories = whole["categories"]
    path.write_text(json.dumps({**whole, "categories": [*categories[:79], categories[0]]}))
    with pytest.raises(InputError, match="80 categories, 79 of them different"):
        coco.read(tmp_path, PLAIN)
    path.write_text(json.dumps({**whole, "annotations": [{"image_id": 77}]}))
    with pytest.raises(InputError, match="image 77 has annotations and is not listed"):
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
