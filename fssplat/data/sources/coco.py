"""MS COCO, 2014 or 2017 layout: images and instances_*.json with polygons and RLE.

The instances of an image become one class-index label. Crowd regions are drawn first, as 255
(ignored), because they mark an unknown number of objects. Then the objects are drawn in the order
of the file, later ones over earlier ones. With the 2,048-pixel rule this gives the (image, class)
pairs of the public lists; drawing the smallest or the largest objects last does not.

A key is the image id in 12 digits, so an image has the same key in the 2014 and 2017 layouts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fssplat.common.errors import InputError
from fssplat.data.labels import IGNORE, Label
from fssplat.data.sources.record import BadSampleError, Record, Source, SourceOptions

CLASSES = 80
YEARS = ("2014", "2017")


@dataclass(frozen=True)
class Instance:
    """One annotation. `class_id` is 0 if its category is not in the file."""

    class_id: int
    category: int
    crowd: bool
    segmentation: Any  # list of polygons, or RLE with `counts` and `size`


@dataclass(frozen=True)
class CocoLabel:
    """The instances of one image; `read` draws them into a label."""

    annotations: Path
    image_id: int
    height: int
    width: int
    instances: tuple[Instance, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.annotations,)

    def read(self) -> Label:
        label = np.zeros((self.height, self.width), dtype=np.uint8)
        for instance in sorted(self.instances, key=lambda item: not item.crowd):
            label[self._inside(instance)] = IGNORE if instance.crowd else instance.class_id
        return label

    def _inside(self, instance: Instance) -> Any:
        """bool [H, W]."""
        from pycocotools import mask

        where = f"{self.annotations}: image {self.image_id}"
        shape = instance.segmentation
        if not instance.class_id:
            raise BadSampleError(
                f"{where}: category {instance.category} is not in the file's categories"
            )
        try:
            if isinstance(shape, list):
                if not shape or min(map(len, shape)) < 6:
                    raise BadSampleError(f"{where}: a polygon has fewer than three corners")
                shape = mask.merge(mask.frPyObjects(shape, self.height, self.width))
            elif isinstance(shape["counts"], list):
                shape = mask.frPyObjects(shape, self.height, self.width)
            inside = mask.decode(shape).astype(bool)
        except (KeyError, TypeError, ValueError) as error:
            raise BadSampleError(f"{where}: a segmentation cannot be read ({error})") from error
        if inside.shape != (self.height, self.width):
            raise BadSampleError(
                f"{where}: an RLE is {inside.shape[0]} x {inside.shape[1]} (height x width), the "
                f"image {self.height} x {self.width}"
            )
        return inside


def read(folder: Path, options: SourceOptions) -> Source:
    """COCO-20i from a folder with annotations/ and the image folders of one release."""
    year = find_year(folder, options.year)
    classes: tuple[str, ...] = ()
    records: list[Record] = []
    for split in ("train", "val"):
        path = folder / "annotations" / f"instances_{split}{year}.json"
        names, of_split = read_split(path, image_folder(folder, f"{split}{year}"), split, year)
        if classes and names != classes:
            raise InputError(f"{path}: its categories differ from those of the train file.")
        classes = names
        records += of_split
    return Source("coco-20i", classes, tuple(records), f"COCO {year} train and val", year)


def find_year(folder: Path, chosen: str) -> str:
    """The release in the folder. Raises InputError if there are two and none is chosen."""
    if chosen and chosen not in YEARS:
        raise InputError(f"--year {chosen}: COCO has the layouts {' and '.join(YEARS)}.")
    found = [
        year for year in YEARS if (folder / "annotations" / f"instances_train{year}.json").is_file()
    ]
    if chosen in found:
        return chosen
    if chosen or not found:
        raise InputError(
            f"{folder}: no annotations/instances_train{chosen or '2014|2017'}.json there. Give "
            f"--source the folder that contains it, or run `fssplat data download coco`."
        )
    if len(found) > 1:
        raise InputError(
            f"{folder}: both COCO layouts are there. Choose one with --year 2014 or 2017."
        )
    return found[0]


def image_folder(folder: Path, name: str) -> Path:
    for place in (folder / name, folder / "images" / name):
        if place.is_dir():
            return place
    raise InputError(f"{folder}: the image folder {name} is missing. Unpack {name}.zip there.")


def read_split(
    path: Path, images: Path, split: str, year: str
) -> tuple[tuple[str, ...], list[Record]]:
    """Class names, and one record per image, also for images without objects."""
    content = _read_json(path)
    try:
        categories = sorted(content["categories"], key=lambda item: int(item["id"]))
        class_ids = {item["id"]: number for number, item in enumerate(categories, start=1)}
        instances: dict[int, list[Instance]] = {item["id"]: [] for item in content["images"]}
        for item in content["annotations"]:
            instances[item["image_id"]].append(
                Instance(
                    class_ids.get(item["category_id"], 0),
                    item["category_id"],
                    bool(item["iscrowd"]),
                    item["segmentation"],
                )
            )
        records = [
            Record(
                f"{item['id']:012d}",
                split,
                images / item["file_name"],
                CocoLabel(
                    path,
                    item["id"],
                    _side(item, "height"),
                    _side(item, "width"),
                    tuple(instances[item["id"]]),
                ),
                f"coco-{year}",
            )
            for item in content["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not COCO's instances ({error!r}). Download it again.") from error
    if len(categories) != CLASSES:
        raise InputError(f"{path}: {len(categories)} categories; COCO's instances have {CLASSES}.")
    return tuple(str(item["name"]) for item in categories), records


def _side(item: Mapping[str, Any], name: str) -> int:
    side = item[name]
    if type(side) is not int or side < 1:
        raise ValueError(f"image {item['id']} has {name} {side!r}")
    return side


def _read_json(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return json.load(stream)
    except FileNotFoundError:
        raise InputError(f"{path}: this file is missing. Unpack COCO's annotations.") from None
    except ValueError as error:
        raise InputError(f"{path}: cut short or not JSON ({error}). Download it again.") from error
