"""LabelMe: one JSON file beside each picture, with polygons, rectangles, circles and masks.

A mask is a PNG of its bounding box, in base64. The picture itself may be in the JSON (imageData).
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fssplat.common.errors import InputError
from fssplat.common.json_files import json_object
from fssplat.data.readers.pictures import find_picture
from fssplat.data.readers.record import (
    AnnotatedImage,
    Part,
    Shape,
    Shapes,
    class_name,
    declared_size,
    require_any,
)
from fssplat.data.readers.shapes.coco_shapes import Inside
from fssplat.data.readers.shapes.pasted import pasted
from fssplat.data.readers.shapes.polygons import Disc, Polygon, numbers, rectangle
from fssplat.data.readers.text_files import annotation_text

KINDS = ("polygon", "rectangle", "circle", "mask")


@dataclass(frozen=True)
class PastedMask:
    """A mask of a part of the picture, whose top left pixel is (left, top)."""

    png: str  # base64
    left: int
    top: int

    def draw(self, height: int, width: int) -> Inside:
        from fssplat.data.masks.labels import UNREADABLE, decode_label

        try:
            part = decode_label(base64.b64decode(self.png, validate=True)) > 0
        except (binascii.Error, *UNREADABLE) as error:
            raise ValueError(f"its mask cannot be decoded ({error})") from error
        return pasted(part, self.left, self.top, height, width)


def is_labelme(content: Any) -> bool:
    """Whether JSON is that of one LabelMe picture."""
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read(root: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """The pictures of a JSON file or of a folder of them. Raises InputError."""
    files = [root] if root.is_file() else sorted(root.glob("*.json"))
    return require_any([read_file(path, images) for path in files], root, "LabelMe JSON")


def read_file(path: Path, images: Sequence[Path] = ()) -> AnnotatedImage:
    """One picture. Raises InputError if the JSON is damaged or not LabelMe's."""
    try:
        content = json_object(annotation_text(path))
        if not is_labelme(content):
            raise ValueError("has no shapes and imagePath")
        picture = find_picture(str(content["imagePath"]), (path.parent, *images))
        parts = tuple(_part(shape) for shape in content["shapes"])
        embedded = b""
        if content.get("imageData") and not picture.is_file():
            embedded = base64.b64decode(content["imageData"], validate=True)
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: {reason}. It is no LabelMe file; save it again.") from error
    size = None
    if content.get("imageHeight") is not None or content.get("imageWidth") is not None:
        size = declared_size(content.get("imageHeight"), content.get("imageWidth"), str(path))
    return AnnotatedImage(picture, Shapes(str(path), (path,), size, parts), embedded=embedded)


def _part(shape: dict[str, Any]) -> Part:
    name, kind = class_name(shape["label"], "a shape"), shape.get("shape_type") or "polygon"
    if kind not in KINDS:
        raise ValueError(
            f"shape {name!a} is a {kind}, which has no area; known: {', '.join(KINDS)}"
        )
    points = numbers(shape["points"], f"points of shape {name!a}")
    return Part(name, _shape(kind, points, shape))


def _shape(kind: str, points: tuple[float, ...], shape: dict[str, Any]) -> Shape:
    if kind == "polygon":
        return Polygon(points)
    if len(points) != 4:
        raise ValueError(f"a {kind} has {len(points) // 2} points; it needs 2")
    x1, y1, x2, y2 = points
    if kind == "rectangle":
        return rectangle(x1, y1, x2, y2)
    if kind == "circle":
        return Disc(x1, y1, float(np.hypot(x2 - x1, y2 - y1)))
    return PastedMask(str(shape.get("mask") or ""), round(min(x1, x2)), round(min(y1, y2)))
