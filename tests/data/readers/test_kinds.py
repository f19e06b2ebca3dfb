"""Single layouts: what each of them has beside polygons of one class."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.readers.layouts import find_layout, read_layout
from fssplat.data.readers.record import load
from tests.data.readers.layouts import (
    HEIGHT,
    WIDTH,
    column_runs,
    labelme_png,
    picture_of,
    save_mask,
    save_picture,
    true_mask,
    write_json,
    written,
)


def labelme(folder: Path, **shape: Any) -> Path:
    save_picture(folder / "a.jpg")
    content = {"imagePath": "a.jpg", "shapes": [{"label": "cat", **shape}]}
    return write_json(folder / "a.json", content)


def masks(path: Path) -> dict[str, Any]:
    (one,) = read_layout(path, find_layout(path))
    return load(one).masks


def test_labelme_has_rectangles_circles_and_masks(tmp_path: Path) -> None:
    box = labelme(tmp_path, shape_type="rectangle", points=[[20, 10], [5, 30]])
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[10:30, 5:20] = 1
    assert (masks(box)["cat"] == expected).all()
    disc = labelme(tmp_path, shape_type="circle", points=[[30, 20], [30, 30]])
    assert abs(int(masks(disc)["cat"].sum()) - np.pi * 100) < 10
    part = true_mask()[5:35, 8:50]
    points = [[8, 5], [50, 35]]
    pasted = labelme(tmp_path, shape_type="mask", points=points, mask=labelme_png(part))
    assert (masks(pasted)["cat"] == true_mask()).all()
    outside = labelme(tmp_path, shape_type="mask", points=[[30, 5]] * 2, mask=labelme_png(part))
    with pytest.raises(InputError, match=r"a region of 'cat' cannot be right: its mask of 30 x 42"):
        masks(outside)
    point = labelme(tmp_path, shape_type="point", points=[[3, 4]])
    with pytest.raises(InputError, match="is a point, which has no area"):
        masks(point)


def test_a_picture_inside_of_labelmes_json_is_used_if_its_file_is_missing(tmp_path: Path) -> None:
    path = written("labelme", tmp_path)
    file = picture_of(tmp_path)
    embedded = base64.b64encode(file.read_bytes()).decode()
    labelme(tmp_path, points=[[1, 1], [9, 1], [9, 9]])
    content = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(content[:-1] + f', "imageData": "{embedded}"}}')
    file.unlink()
    assert masks(path)["cat"].any()


def test_regions_of_one_class_are_joined_and_a_crowd_is_ignored(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.jpg")
    runs = {"size": [HEIGHT, WIDTH], "counts": column_runs(true_mask())}
    boxes = [[[1, 1, 4, 1, 4, 4, 1, 4]], [[50, 1, 54, 1, 54, 4, 50, 4]]]
    regions: list[dict[str, Any]] = [
        {"segmentation": runs, "iscrowd": 1},
        *({"segmentation": box, "iscrowd": 0} for box in boxes),
    ]
    annotations = [{**one, "image_id": 1, "category_id": 1} for one in regions]
    images = [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}]
    categories = [{"id": 1, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    mask = masks(write_json(tmp_path / "coco.json", content))["cat"]
    assert int((mask == 1).sum()) == 9 + 12
    assert ((mask == 255) == (true_mask() == 1)).all()


def test_a_folder_of_pairs_is_named_after_its_class(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save_picture(tmp_path / name / "a.jpg")
        save_mask(tmp_path / name / "a.png", true_mask() * 255)
    assert find_layout(tmp_path) == "class-folders"
    found = read_layout(tmp_path, "class-folders")
    assert [list(load(one).masks) for one in found] == [["cat"], ["dog"]]


def test_masks_that_were_predicted_find_their_pictures_elsewhere(tmp_path: Path) -> None:
    save_picture(tmp_path / "photos" / "day" / "a.jpg")
    save_mask(tmp_path / "masks" / "day" / "a.png", true_mask() * 2)
    write_json(tmp_path / "masks" / "classes.json", {"1": "cat", "2": "dog"})
    assert find_layout(tmp_path / "masks") == "pairs"
    (one,) = read_layout(tmp_path / "masks", "pairs", [tmp_path / "photos"])
    assert (load(one).masks["dog"] == true_mask()).all()
    write_json(tmp_path / "masks" / "classes.json", {"1": "cat"})
    (one,) = read_layout(tmp_path / "masks", "pairs", [tmp_path / "photos"])
    with pytest.raises(InputError, match=r"the mask has the value 2, which is no class\. .*1=cat"):
        load(one)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.1 0.1 0.5 0.5", "line 1: a box, no polygon"),
        ("7 0.1 0.1 0.5 0.5 0.1 0.5", "line 1: class '7' is not in data.yaml"),
        ("1 0.1 x 0.5 0.5 0.1 0.5", "line 1: not a class and numbers"),
    ],
)
def test_a_line_of_yolo_that_is_no_polygon_is_named(
    line: str, message: str, tmp_path: Path
) -> None:
    path = written("yolo", tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_text(line)
    with pytest.raises(InputError, match=message):
        masks(path)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    from fssplat.data.readers.pictures import read_picture

    save_picture(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a: the image has 60 x 40 pixels; at most 2,000"):
        read_picture(tmp_path / "a.png", "a", most=2000)
    assert read_picture((tmp_path / "a.png").read_bytes(), "a").size == (HEIGHT, WIDTH)
