"""COCO's polygons and runs: the right pixels, and numbers that cannot be right."""

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.index import Dataset
from fssplat.data.readers.shapes.coco_shapes import draw_shape
from tests.fakes.official_layouts import coco_layout

HEIGHT, WIDTH = 24, 32  # as in `coco_layout`
PIXELS = HEIGHT * WIDTH
SIDES = [HEIGHT, WIDTH]
SQUARE = [1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0]
NAN, INFINITY = float("nan"), float("inf")

BAD: list[tuple[str, Any]] = [
    ("neither a list of polygons nor an RLE", None),
    ("neither a list of polygons nor an RLE", "1 1 9 1 9 9"),
    ("neither a list of polygons nor an RLE", 5),
    ("neither a list of polygons nor an RLE", {}),
    ("neither a list of polygons nor an RLE", {"counts": [PIXELS]}),
    ("it has no polygon", []),
    ("a polygon is not a list of numbers", SQUARE),
    ("a polygon is not a list of numbers", [SQUARE, None]),
    ("a polygon is not a list of numbers", [["1", 1, 9, 1, 9, 9]]),
    ("a polygon is not a list of numbers", [[True, 1, 9, 1, 9, 9]]),
    ("a polygon is not a list of numbers", [[None, 1, 9, 1, 9, 9]]),
    ("a polygon is not a list of numbers", [[[1, 1], [9, 1], [9, 9]]]),
    ("an odd number of coordinates, 7", [[*SQUARE[:6], 10]]),
    ("an odd number of coordinates, 5", [SQUARE, SQUARE[:5]]),
    ("fewer than three corners", [[]]),
    ("fewer than three corners", [[1, 1, 9, 9]]),
    ("a corner at x = 2.08e+08, far from the image", [[-16.1, 2, 2.08e8, 3, 22.0, 6.0]]),
    ("a corner at y = -3.52e+08, far from the image", [[1, -3.52e8, 9, 1, 9, 9]]),
    ("a corner at x = nan", [[NAN, 1, 9, 1, 9, 9]]),
    ("a corner at y = inf", [[1, INFINITY, 9, 1, 9, 9]]),
    ("a corner at x = -inf", [[1, 1, -INFINITY, 1, 9, 9]]),
    ("a corner at x = 1e+30", [[10**30, 1, 9, 1, 9, 9]]),
    ("a polygon is outside of the image", [[-9, -9, -1, -9, -1, -1]]),
    ("a polygon is outside of the image", [[33, 1, 40, 1, 40, 9]]),
    ("an RLE is 2 x 2 (height x width), the image 24 x 32", {"size": [2, 2], "counts": [0, 4]}),
    ("an RLE is 32 x 24", {"size": [WIDTH, HEIGHT], "counts": [PIXELS]}),
    ("an RLE is 100000 x 100000", {"size": [100_000, 100_000], "counts": "PPYo1`0"}),
    ("an RLE is -24 x -32", {"size": [-HEIGHT, -WIDTH], "counts": [PIXELS]}),
    ("not two whole numbers", {"size": [PIXELS], "counts": [PIXELS]}),
    ("not two whole numbers", {"size": "24x32", "counts": [PIXELS]}),
    ("not two whole numbers", {"size": [24.0, 32.0], "counts": [PIXELS]}),
    ("not two whole numbers", {"size": None, "counts": [PIXELS]}),
    ("neither text nor a list of whole numbers", {"size": SIDES, "counts": None}),
    ("neither text nor a list of whole numbers", {"size": SIDES, "counts": 5}),
    ("neither text nor a list of whole numbers", {"size": SIDES, "counts": [1.5, PIXELS - 1.5]}),
    ("neither text nor a list of whole numbers", {"size": SIDES, "counts": ["5", PIXELS - 5]}),
    ("a run of -5 pixels", {"size": SIDES, "counts": [-5, 200, PIXELS - 195]}),
    ("add up to 105 pixels, not 768", {"size": SIDES, "counts": [100, 5]}),
    ("add up to 769 pixels, not 768", {"size": SIDES, "counts": [PIXELS, 1]}),
    ("add up to 0 pixels", {"size": SIDES, "counts": []}),
    ("add up to 0 pixels", {"size": SIDES, "counts": ""}),
    ("add up to 4294967297 pixels", {"size": SIDES, "counts": [2**32, 1]}),
    ("add up to 10 pixels", {"size": SIDES, "counts": ":"}),
    ("a run longer than the image", {"size": SIDES, "counts": "PPYo1`0"}),
    ("is damaged", {"size": SIDES, "counts": "ab\u00ff"}),
    ("is damaged", {"size": SIDES, "counts": "!"}),
    ("is damaged", {"size": SIDES, "counts": "o" * 50}),
    ("is cut short", {"size": SIDES, "counts": "o"}),
]


@pytest.mark.parametrize(("message", "shape"), BAD, ids=str)
def test_a_segmentation_that_cannot_be_right_says_why(message: str, shape: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        draw_shape(shape, HEIGHT, WIDTH)


def test_a_polygon_covers_its_pixels_also_where_it_leaves_the_image() -> None:
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[1:9, 1:9] = True
    assert (draw_shape([SQUARE], HEIGHT, WIDTH) == expected).all()
    expected[20:, 30:] = True
    corner = [30, 20, 40, 20, 40, 30, 30, 30]
    assert (draw_shape([SQUARE, corner], HEIGHT, WIDTH) == expected).all()


def test_runs_as_a_list_and_as_text_give_what_pycocotools_gives() -> None:
    from pycocotools import mask

    draw = random.Random(0)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        inside = np.array([draw.random() < share for _ in range(PIXELS)]).reshape(HEIGHT, WIDTH)
        text = mask.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"].decode()
        flat = np.concatenate([[False], inside.ravel(order="F"), [False]])
        edges = [0, *np.flatnonzero(np.diff(flat)).tolist(), PIXELS]
        runs = [end - start for start, end in itertools.pairwise(edges)]
        for counts in (text, runs):
            assert (draw_shape({"size": SIDES, "counts": counts}, HEIGHT, WIDTH) == inside).all()


@pytest.mark.parametrize("shape", [[[-16.1, 2, 2.08e8, 3, 22.0, 6.0]], [SQUARE[:7]], None], ids=str)
def test_a_build_names_the_image_and_leaves_it_out_on_request(tmp_path: Path, shape: Any) -> None:
    broken = {"category_id": 2, "segmentation": shape}
    good = {"category_id": 4, "segmentation": [SQUARE]}
    source = coco_layout(tmp_path / "coco", {"train": [broken], "val": [good]})
    out = tmp_path / "built"
    with pytest.raises(InputError, match=r"instances_train2017\.json: image 1: a segmentation ca"):
        build("coco-20i", source, out)
    assert not (out / "dataset.json").exists()
    report = build("coco-20i", source, out, BuildSettings(skip_bad=True))
    assert [item.key for item in report.bad] == ["000000000001"]
    assert Dataset.open(out).keys == ["000000000002"]
    listed = json.loads((out / "report.json").read_text())["bad"]
    assert "image 1" in listed[0]["reason"]
