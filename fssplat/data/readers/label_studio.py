"""Label Studio: a JSON export of tasks, with polygons, rectangles, ellipses and brush masks.

Several regions of one label become one mask. The last annotation of a task that is not cancelled
counts. Pictures are found by the last part of their address, with or without the eight digits that
an upload adds to a name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fssplat.common.errors import InputError
from fssplat.data.readers.pictures import find_picture, is_picture
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
from fssplat.data.readers.shapes import brush_runs
from fssplat.data.readers.shapes.coco_shapes import Inside
from fssplat.data.readers.shapes.polygons import Polygon, ellipse, numbers, rectangle
from fssplat.data.readers.text_files import annotation_json

KINDS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")
FOLDERS = ("", "images", "media", "media/upload", "upload")


@dataclass(frozen=True)
class Brush:
    """A brush mask as Label Studio has it."""

    runs: tuple[int, ...]

    def draw(self, height: int, width: int) -> Inside:
        return brush_runs.decode(self.runs, height, width)


def is_label_studio(content: Any) -> bool:
    """Whether JSON is a list of tasks."""
    tasks = content if isinstance(content, list) else []
    return bool(tasks) and all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks[:20]
    )


def read(root: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """The annotated tasks of a JSON file, or of those in a folder. Raises InputError."""
    files = [root] if root.is_file() else sorted(root.glob("*.json"))
    found = []
    for path in files:
        content = annotation_json(path)
        if not is_label_studio(content):
            raise InputError(f"{path}: not a JSON export of Label Studio. Export it as JSON.")
        folders = [path.parent / name for name in FOLDERS]
        found += [one for task in content if (one := read_task(task, path, (*folders, *images)))]
    return require_any(found, root, "annotated task")


def read_task(
    task: Mapping[str, Any], path: Path, folders: Sequence[Path]
) -> AnnotatedImage | None:
    """The picture of a task; None if it is not annotated. Raises InputError."""
    where = f"{path}: task {task.get('id', '')}"
    try:
        regions = list(regions_of(task))
        if not regions:
            return None
        parts, sizes = parts_of(regions, where)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{where}: {reason_of(error)}. Export it again.") from error
    name = str(next((v for v in task["data"].values() if _is_picture(v)), ""))
    if not name:
        raise InputError(f"{where}: its data name no picture. Export a project of pictures.")
    return AnnotatedImage(local_picture(name, folders), Shapes(where, (path,), sizes, parts))


def regions_of(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The regions of the last annotation that is not cancelled."""
    kept = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
    for region in kept[-1]["result"] if kept else []:
        if str(region.get("type", "")) in KINDS:
            yield region


def parts_of(
    regions: Sequence[Mapping[str, Any]], where: str
) -> tuple[tuple[Part, ...], tuple[int, int]]:
    """The regions with their labels, and (height, width). Raises KeyError, ValueError, ..."""
    sizes = {
        declared_size(one.get("original_height"), one.get("original_width"), where)
        for one in regions
    }
    if len(sizes) > 1:
        raise ValueError("one original_height and original_width of all regions")
    parts = []
    for region in regions:
        shape = _shape(region)
        parts += [
            Part(class_name(name, "a region"), shape) for name in region["value"][region["type"]]
        ]
    return tuple(parts), sizes.pop()


def _shape(region: Mapping[str, Any]) -> Shape:
    value, kind = region["value"], region["type"]
    if kind == "brushlabels":
        return Brush(tuple(value["rle"]))
    if kind == "polygonlabels":
        corners = numbers(value["points"], "points of a polygon")
        return Polygon(tuple(percent / 100 for percent in corners), relative=True)
    if float(value.get("rotation") or 0):
        raise ValueError(f"a rotated {kind.removesuffix('labels')}, which is not read: its outline")
    x, y = float(value["x"]) / 100, float(value["y"]) / 100
    if kind == "rectanglelabels":
        width, height = float(value["width"]) / 100, float(value["height"]) / 100
        return rectangle(x, y, x + width, y + height, relative=True)
    across, down = float(value["radiusX"]) / 100, float(value["radiusY"]) / 100
    return ellipse(x, y, across, down, relative=True)


# ------------------------------------------------------------------ pictures


def _is_picture(value: object) -> bool:
    return isinstance(value, str) and is_picture(Path(picture_name(value)))


def picture_name(address: str) -> str:
    """The path in an address: `/data/upload/1/x-a.jpg`, `/data/local-files/?d=dir/a.jpg`, s3://."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)


def local_picture(address: str, folders: Sequence[Path]) -> Path:
    """The picture of a task in one of the folders, or the first place that was tried."""
    name = picture_name(address)
    found = find_picture(name, folders)
    if found.is_file():
        return found
    without = re.sub(r"^[0-9a-f]{8}-", "", name.rsplit("/", 1)[-1])
    other = find_picture(without, folders)
    return other if other.is_file() else folders[0] / without
