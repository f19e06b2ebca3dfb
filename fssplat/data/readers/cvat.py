"""CVAT for images 1.1: one XML file for many pictures, with polygons, boxes, ellipses and masks.

The `rle` of a mask counts pixels outside and inside in turn, row by row, within its box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.data.readers.pictures import find_picture
from fssplat.data.readers.record import (
    AnnotatedImage,
    Part,
    Shape,
    Shapes,
    class_name,
    declared_size,
    reason_of,
    require_any,
)
from fssplat.data.readers.shapes.coco_shapes import Inside
from fssplat.data.readers.shapes.pasted import pasted
from fssplat.data.readers.shapes.polygons import Polygon, ellipse, rectangle
from fssplat.data.readers.text_files import annotation_xml

WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
FOLDERS = ("", "images", "data", "images/default")
SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}  # CVAT's subsets


@dataclass(frozen=True)
class RowRuns:
    """A mask within a box."""

    runs: tuple[int, ...]
    left: int
    top: int
    height: int
    width: int

    def draw(self, height: int, width: int) -> Inside:
        if min(self.height, self.width) < 1 or sum(self.runs) != self.height * self.width:
            raise ValueError(
                f"the runs of its mask add up to {sum(self.runs)} pixels, and its box has "
                f"{self.height} x {self.width} (height x width)"
            )
        if self.left + self.width > width or self.top + self.height > height:
            raise ValueError(f"the box of its mask is not inside of {height} x {width}")
        inside = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        part = inside.reshape(self.height, self.width)
        return pasted(part, self.left, self.top, height, width)


def is_cvat(path: Path) -> bool:
    """Whether the file starts as CVAT's XML does."""
    with regular(path).open("rb") as file:
        start = file.read(4096)
    return b"<annotations" in start


def read(root: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """The pictures of an XML file, or of annotations.xml in a folder. Raises InputError."""
    path = root if root.is_file() else root / "annotations.xml"
    content = annotation_xml(path)
    if content.tag != "annotations":
        raise InputError(f"{path}: not CVAT for images 1.1: its root is <{content.tag[:40]}>.")
    folders = [path.parent / name for name in FOLDERS]
    found = [_picture(path, item, (*folders, *images)) for item in content.iter("image")]
    return require_any(found, path, "<image>")


def _picture(path: Path, item: Element, folders: Sequence[Path]) -> AnnotatedImage:
    name = item.get("name", "")
    where = f"{path}: image {name}"
    size = declared_size(item.get("height"), item.get("width"), where)
    try:
        parts = tuple(_part(child) for child in item if child.tag != "tag")
    except (ValueError, KeyError) as error:
        raise InputError(f"{where}: {reason_of(error)}. Export it again.") from error
    picture = find_picture(name, folders)
    split = SPLITS.get(item.get("subset", "").lower(), "")
    return AnnotatedImage(picture, Shapes(where, (path,), size, parts), split)


def _part(child: Element) -> Part:
    if child.tag in WITHOUT_AREA:
        raise ValueError(f"the area of a {child.tag}")
    return Part(class_name(child.attrib["label"], "a region"), _shape(child))


def _shape(child: Element) -> Shape:
    given = child.attrib
    if child.tag == "polygon":
        points = [pair.split(",") for pair in given["points"].split(";")]
        return Polygon(tuple(float(value) for pair in points for value in pair))
    if child.tag == "box":
        x1, y1, x2, y2 = (float(given[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(x1, y1, x2, y2)
    if child.tag == "ellipse":
        x, y, rx, ry = (float(given[name]) for name in ("cx", "cy", "rx", "ry"))
        return ellipse(x, y, rx, ry)
    if child.tag == "mask":
        runs = tuple(int(word) for word in given["rle"].split(","))
        if min(runs) < 0:
            raise ValueError("the rle of a mask")
        left, top, width, height = (int(given[k]) for k in ("left", "top", "width", "height"))
        return RowRuns(runs, left, top, height, width)
    raise ValueError(f"the shape <{child.tag[:40]}>")
