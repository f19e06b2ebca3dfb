"""Writes one marked picture in every layout, whole or with a fault, for the tests of readers."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fssplat.data.readers.shapes import brush_runs
from fssplat.data.readers.shapes.coco_shapes import draw_shape

HEIGHT, WIDTH = 40, 60
CORNERS = [10, 8, 45, 8, 45, 20, 30, 20, 30, 33, 10, 33]  # x, y, ...: an L upside down
Mask = npt.NDArray[np.uint8]


def true_mask() -> Mask:
    """uint8 [HEIGHT, WIDTH], 1 inside of CORNERS."""
    return draw_shape([[float(value) for value in CORNERS]], HEIGHT, WIDTH).astype(np.uint8)


def picture() -> Image.Image:
    """Noise of the right size, so that a turned or a cut picture is another one."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def save_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture().save(path, quality=95)


def save_mask(path: Path, mask: Mask, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path, **options)


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


# Each writer makes a picture and its annotation below a folder and returns what --support is given.
# `mask` may be empty and `size` wrong; a layout without them has no such fault.

Size = tuple[int, int]


def pairs(folder: Path, mask: Mask, size: Size) -> Path:
    save_picture(folder / "a.jpg")
    save_mask(folder / "a.png", resized(mask, size) * 255)
    return folder


def folders(folder: Path, mask: Mask, size: Size) -> Path:
    save_picture(folder / "images" / "a.jpg")
    save_mask(folder / "masks" / "a.png", resized(mask, size))
    return folder


def voc(folder: Path, mask: Mask, size: Size) -> Path:
    save_picture(folder / "JPEGImages" / "a.jpg")
    indices = Image.fromarray(resized(mask, size) * 8)  # 8: cat
    indices.putpalette([0, 0, 0] + [64, 0, 0] * 255)
    (folder / "SegmentationClass").mkdir()
    indices.save(folder / "SegmentationClass" / "a.png")
    return folder


def labelme(folder: Path, mask: Mask, size: Size) -> Path:
    save_picture(folder / "a.jpg")
    points = [list(pair) for pair in zip(CORNERS[::2], CORNERS[1::2], strict=True)]
    shapes = [{"label": "cat", "points": points, "shape_type": "polygon"}] if mask.any() else []
    content = {"imagePath": "a.jpg", "imageHeight": size[0], "imageWidth": size[1]}
    return write_json(folder / "a.json", {**content, "imageData": None, "shapes": shapes}).parent


def coco(folder: Path, mask: Mask, size: Size, segmentation: Any) -> Path:
    save_picture(folder / "images" / "a.jpg")
    annotations = [{"id": 1, "image_id": 1, "category_id": 3, "segmentation": segmentation}]
    return write_json(
        folder / "annotations.json",
        {
            "images": [{"id": 1, "file_name": "a.jpg", "height": size[0], "width": size[1]}],
            "annotations": annotations if mask.any() else [],
            "categories": [{"id": 3, "name": "cat"}],
        },
    )


def coco_polygon(folder: Path, mask: Mask, size: Size) -> Path:
    return coco(folder, mask, size, [CORNERS])


def coco_runs(folder: Path, mask: Mask, size: Size) -> Path:
    counts = column_runs(mask)
    return coco(folder, mask, size, {"size": [HEIGHT, WIDTH], "counts": counts})


def coco_compressed(folder: Path, mask: Mask, size: Size) -> Path:
    from pycocotools import mask as pycoco

    found = pycoco.encode(np.asfortranarray(mask))
    return coco(folder, mask, size, {**found, "counts": found["counts"].decode()})


def yolo(folder: Path, mask: Mask, size: Size) -> Path:
    save_picture(folder / "images" / "train" / "a.jpg")
    sides = (WIDTH, HEIGHT) * (len(CORNERS) // 2)
    shares = [f"{value / side:.8f}" for value, side in zip(CORNERS, sides, strict=True)]
    (folder / "labels" / "train").mkdir(parents=True)
    line = f"1 {' '.join(shares)}\n" if mask.any() else ""
    (folder / "labels" / "train" / "a.txt").write_text(line)
    (folder / "data.yaml").write_text("names: {0: dog, 1: cat}\n")
    return folder


def cvat(folder: Path, size: Size, shape: str) -> Path:
    save_picture(folder / "images" / "a.jpg")
    (folder / "annotations.xml").write_text(
        f'<annotations><version>1.1</version><image id="0" name="a.jpg" width="{size[1]}" '
        f'height="{size[0]}">{shape}</image></annotations>'
    )
    return folder


def cvat_polygon(folder: Path, mask: Mask, size: Size) -> Path:
    pairs = ";".join(f"{x},{y}" for x, y in zip(CORNERS[::2], CORNERS[1::2], strict=True))
    return cvat(folder, size, f'<polygon label="cat" points="{pairs}"/>' if mask.any() else "")


def cvat_mask(folder: Path, mask: Mask, size: Size) -> Path:
    if not mask.any():
        return cvat(folder, size, "")
    rows, columns = np.nonzero(mask)
    top, left = int(rows.min()), int(columns.min())
    part = mask[top : rows.max() + 1, left : columns.max() + 1]
    runs = ", ".join(map(str, column_runs(part.T)))
    box = f'left="{left}" top="{top}" width="{part.shape[1]}" height="{part.shape[0]}"'
    return cvat(folder, size, f'<mask label="cat" rle="{runs}" {box}/>')


def label_studio(folder: Path, mask: Mask, size: Size, kind: str, value: Any) -> Path:
    save_picture(folder / "0f1e2d3c-a.jpg")
    region = {"type": kind, "value": {**value, kind: ["cat"]}, "original_height": size[0]}
    regions = [{**region, "original_width": size[1]}] if mask.any() else []
    task = {"id": 7, "data": {"image": "/data/upload/1/0f1e2d3c-a.jpg"}}
    return write_json(folder / "export.json", [{**task, "annotations": [{"result": regions}]}])


def label_studio_polygon(folder: Path, mask: Mask, size: Size) -> Path:
    points = [
        [100 * x / WIDTH, 100 * y / HEIGHT]
        for x, y in zip(CORNERS[::2], CORNERS[1::2], strict=True)
    ]
    return label_studio(folder, mask, size, "polygonlabels", {"points": points})


def label_studio_brush(folder: Path, mask: Mask, size: Size) -> Path:
    rle = brush_runs.encode(mask.astype(bool))
    return label_studio(folder, mask, size, "brushlabels", {"format": "rle", "rle": rle})


Writer = Callable[[Path, Mask, Size], Path]
WRITERS: dict[str, Writer] = {
    "pairs": pairs,
    "folders": folders,
    "labelme": labelme,
    "coco polygon": coco_polygon,
    "coco runs": coco_runs,
    "coco compressed": coco_compressed,
    "voc": voc,
    "yolo": yolo,
    "cvat polygon": cvat_polygon,
    "cvat mask": cvat_mask,
    "label studio polygon": label_studio_polygon,
    "label studio brush": label_studio_brush,
}
MASK_FILES = ("pairs", "folders", "voc")


def written(name: str, folder: Path, mask: Mask | None = None, size: Size | None = None) -> Path:
    """Write a layout; a whole one without `mask` and `size`."""
    folder.mkdir(exist_ok=True)
    whole = true_mask() if mask is None else mask
    return WRITERS[name](folder, whole, size or (HEIGHT, WIDTH))


def annotation_of(folder: Path) -> Path:
    """The file with the annotation of a layout that was written."""
    kinds = (".json", ".xml", ".txt", ".png")
    return next(path for kind in kinds for path in sorted(folder.rglob(f"*{kind}")))


def picture_of(folder: Path) -> Path:
    return next(folder.rglob("*.jpg"))


def resized(mask: Mask, size: Size) -> Mask:
    """The mask cut or filled up to a size."""
    whole = np.zeros(size, dtype=np.uint8)
    height, width = min(size[0], HEIGHT), min(size[1], WIDTH)
    whole[:height, :width] = mask[:height, :width]
    return whole


def column_runs(mask: Mask) -> list[int]:
    """Runs outside and inside in turn, down the first column, then the next."""
    flat = mask.T.ravel().tolist()
    runs, value = [0], 0
    for pixel in flat:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def labelme_png(mask: Mask) -> str:
    """A mask as LabelMe has it in its JSON."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
