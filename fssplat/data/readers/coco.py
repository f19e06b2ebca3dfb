"""COCO: one JSON file for many pictures, with polygons or run-length encodings (RLE).

Any categories are read, unlike by `fssplat.data.sources.coco`, which reads the data set of that
name. Crowds are 255: neither the class nor background.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError
from fssplat.data.readers.pictures import find_picture
from fssplat.data.readers.record import (
    AnnotatedImage,
    Part,
    Shapes,
    declared_size,
    reason_of,
    require_any,
)
from fssplat.data.readers.shapes.coco_shapes import Inside, draw_shape
from fssplat.data.readers.text_files import annotation_json

SPLITS = ("train", "val", "test")
KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class CocoShape:
    """A segmentation as the file has it: a list of polygons, or an RLE."""

    segmentation: Any

    def draw(self, height: int, width: int) -> Inside:
        if self.segmentation in (None, []):
            raise ValueError("it has no segmentation, only a box")
        return draw_shape(self.segmentation, height, width)


def is_coco(content: Any) -> bool:
    """Whether JSON is COCO's instances."""
    return isinstance(content, dict) and all(isinstance(content.get(k), list) for k in KEYS)


def read(root: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """The pictures of a JSON file, or of all those in a folder or in annotations/ of it.

    Raises InputError if a file is damaged or not COCO's.
    """
    files = [root] if root.is_file() else annotation_files(root)
    found = [one for path in files for one in read_file(path, images)]
    return require_any(found, root, "COCO JSON")


def annotation_files(root: Path) -> list[Path]:
    """The JSON files of a folder, else of annotations/ in it."""
    return sorted(root.glob("*.json")) or sorted(root.glob("annotations/*.json"))


def read_file(path: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """The pictures of one file, also those in which nothing is marked. Raises InputError."""
    content = annotation_json(path)
    if not is_coco(content):
        raise InputError(f"{path}: not COCO's instances: lists {', '.join(KEYS)} are needed.")
    split = next((name for name in SPLITS if name in path.stem.lower()), "")
    try:
        names = {item["id"]: str(item["name"]) for item in content["categories"]}
        parts: dict[Any, list[Part]] = {item["id"]: [] for item in content["images"]}
        for item in content["annotations"]:
            if item["image_id"] not in parts:
                raise ValueError(f"annotation {item.get('id')!a}: image {item['image_id']!a}")
            if item["category_id"] not in names:
                raise ValueError(f"annotation {item.get('id')!a}: its category")
            shape = CocoShape(item.get("segmentation"))
            parts[item["image_id"]].append(
                Part(names[item["category_id"]], shape, bool(item.get("iscrowd")))
            )
        found = []
        for item in content["images"]:
            where = f"{path}: image {item['file_name']}"
            size = declared_size(item["height"], item["width"], where)
            picture = find_picture(str(item["file_name"]), (*folders_of(path), *images))
            shapes = Shapes(where, (path,), size, tuple(parts[item["id"]]))
            found.append(AnnotatedImage(picture, shapes, split))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: not COCO's instances: {reason_of(error)}. Export it again."
        ) from error
    return found


def folders_of(path: Path) -> list[Path]:
    """Where the pictures of an annotation file usually are: beside it, and in image folders.

    For annotations/instances_train.json also ../train and ../images/train.
    """
    split = next((name for name in SPLITS if name in path.stem.lower()), "")
    folders = [path.parent, path.parent / "images"]
    above = path.parent.parent if path.parent.name == "annotations" else path.parent
    for base in (above, above / "images"):
        folders.append(base)
        if split and base.is_dir():
            folders += sorted(one for one in base.iterdir() if one.name.startswith(split))
    return list(dict.fromkeys(folders))
