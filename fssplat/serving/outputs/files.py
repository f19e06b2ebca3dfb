"""`--format`: png, coco, labelme, yolo, and overlays. Each is read back by `--support`.

OUT/NAME.png            0 and 255 for one class; indices with a palette for several
OUT/classes.json        index -> class, for several
OUT/coco.json           COCO's instances, one compressed RLE for a class in a picture
OUT/labelme/NAME.json   polygons
OUT/yolo/labels/NAME.txt, OUT/yolo/data.yaml
OUT/overlays/NAME.jpg   pictures to look at
"""

import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fssplat.common.whole_files import replacing
from fssplat.data.readers.mask_files import NAMES_FILE
from fssplat.data.transforms import Pixels
from fssplat.serving.outputs.outlines import outlines
from fssplat.serving.outputs.predicted import Predicted

COCO_FILE = "coco.json"
TINT = 0.45  # share of a class's colour in an overlay


def write(path: Path, data: bytes) -> None:
    """Replace a file in one step; its folder is made if needed."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


# ------------------------------------------------------------------ one file for a picture


def png_path(out: Path, name: str) -> Path:
    return out / f"{name}.png"


def write_png(out: Path, one: Predicted) -> None:
    """The mask, at the query's own size."""
    write(png_path(out, one.name), png(one))


def png(one: Predicted) -> bytes:
    """The mask: 0 and 255 for one class; indices with a palette for several."""
    if len(one.classes) == 1:
        picture = Image.fromarray(one.labels * np.uint8(255))
    else:
        picture = Image.fromarray(one.labels)
        picture.putpalette(palette(len(one.classes)))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def labelme_path(out: Path, name: str) -> Path:
    return out / "labelme" / f"{name}.json"


def write_labelme(out: Path, one: Predicted) -> None:
    """Polygons; the picture is named relative to the JSON file."""
    path = labelme_path(out, one.name)
    shapes: list[dict[str, Any]] = [
        {
            "label": name,
            "points": [[float(x), float(y)] for x, y in outline],
            "group_id": None,
            "shape_type": "polygon",
            "flags": {},
        }
        for place, name in one.present()
        for outline in outlines(one.labels == place)
    ]
    content: dict[str, Any] = {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(one.image.absolute(), path.parent.absolute())).as_posix(),
        "imageData": None,
        "imageHeight": one.size[0],
        "imageWidth": one.size[1],
    }
    write(path, (json.dumps(content, indent=1) + "\n").encode())


def yolo_path(out: Path, name: str) -> Path:
    return out / "yolo" / "labels" / f"{name}.txt"


def write_yolo(out: Path, one: Predicted) -> None:
    """A line for a polygon: class, then x and y as shares of width and height."""
    height, width = one.size
    lines = [
        f"{place - 1} " + " ".join(f"{x / width:.8g} {y / height:.8g}" for x, y in outline)
        for place, _ in one.present()
        for outline in outlines(one.labels == place)
    ]
    write(yolo_path(out, one.name), "".join(f"{line}\n" for line in lines).encode())


def overlay_path(out: Path, name: str) -> Path:
    return out / "overlays" / f"{name}.jpg"


def write_overlay(out: Path, one: Predicted, pixels: Pixels) -> None:
    """The query with each class in its colour and an outline around it."""
    buffer = io.BytesIO()
    Image.fromarray(overlay(pixels, one)).save(buffer, format="JPEG", quality=90)
    write(overlay_path(out, one.name), buffer.getvalue())


def overlay(pixels: Pixels, one: Predicted) -> Pixels:
    """uint8 RGB [H, W, 3]."""
    colours = np.array(palette(len(one.classes)), dtype=np.uint8).reshape(-1, 3)
    inside = one.labels > 0
    tinted = pixels.copy()
    mixed = (1 - TINT) * pixels[inside] + TINT * colours[one.labels[inside]]
    tinted[inside] = mixed.astype(np.uint8)
    edge = np.zeros(inside.shape, dtype=bool)
    edge[:, 1:] |= one.labels[:, 1:] != one.labels[:, :-1]
    edge[1:] |= one.labels[1:] != one.labels[:-1]
    tinted[edge] = np.where(inside[edge, None], colours[one.labels[edge]], 255)
    return tinted


Write = Callable[[Path, Predicted], None]
Place = Callable[[Path, str], Path]
PER_IMAGE: dict[str, tuple[Place, Write]] = {
    "png": (png_path, write_png),
    "labelme": (labelme_path, write_labelme),
    "yolo": (yolo_path, write_yolo),
}
FORMATS = ("png", "coco", "labelme", "yolo")


# ------------------------------------------------------------------ one file for all pictures


def write_common(out: Path, formats: Sequence[str], classes: Sequence[str]) -> None:
    """The names of the classes, as the formats need them."""
    if "png" in formats and len(classes) > 1:
        names = {str(place): name for place, name in enumerate(classes, start=1)}
        write(out / NAMES_FILE, (json.dumps(names, indent=1) + "\n").encode())
    if "yolo" in formats:
        names_of = "".join(f"  {n}: {json.dumps(name)}\n" for n, name in enumerate(classes))
        write(out / "yolo" / "data.yaml", f"path: .\ntrain: images\nnames:\n{names_of}".encode())


def write_coco(out: Path, entries: Iterable[dict[str, Any]], classes: Sequence[str]) -> None:
    """COCO's instances from lines of the journal, which have the runs of each class."""
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for entry in entries:
        height, width = entry["size"]
        image = {"id": len(images) + 1, "file_name": entry["file"]}
        images.append({**image, "height": height, "width": width})
        for name, shape in entry["runs"].items():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": numbers[name],
                    "segmentation": shape,
                    "iscrowd": 0,
                    **_box(shape),
                    "score": entry["confidence"][name],
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
    }
    write(out / COCO_FILE, json.dumps(content).encode())


def _box(shape: dict[str, Any]) -> dict[str, Any]:
    from pycocotools import mask

    return {
        "bbox": [float(value) for value in mask.toBbox(shape)],
        "area": int(mask.area(shape)),
    }


def palette(classes: int) -> list[int]:
    """Red, green and blue of background and of each class: the palette of VOC."""
    values: list[int] = []
    for index in range(classes + 1):
        colour, rest = [0, 0, 0], index
        for bit in range(7, -1, -1):
            for channel in range(3):
                colour[channel] |= (rest >> channel & 1) << bit
            rest >>= 3
        values += colour
    return values
