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
from fssplat.common.file_kinds import regular
from fssplat.common.plain_names import plain_name
from fssplat.data.masks.labels import IGNORE, Label
from fssplat.data.readers.shapes.coco_shapes import draw_shape
from fssplat.data.sources.record import BadSampleError, Record, Source, SourceOptions

CLASSES = 80
YEARS = ("2014", "2017")
MOST_SIDE = 65_535  # of a JPEG, pixels
MOST_PIXELS = 178_956_970  # Pillow refuses larger images


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
        where = f"{self.annotations}: image {self.image_id}"
        if max(self.height, self.width) > MOST_SIDE or self.height * self.width > MOST_PIXELS:
            raise BadSampleError(
                f"{where}: its height {self.height} and width {self.width} are more than a JPEG has"
            )
        label = np.zeros((self.height, self.width), dtype=np.uint8)
        for instance in sorted(self.instances, key=lambda item: not item.crowd):
            if not instance.class_id:
                category = ascii(instance.category)[:40]
                raise BadSampleError(
                    f"{where}: category {category} is not in the file's categories"
                )
            try:
                inside = draw_shape(instance.segmentation, self.height, self.width)
            except ValueError as error:
                raise BadSampleError(f"{where}: a segmentation cannot be right: {error}") from error
            label[inside] = IGNORE if instance.crowd else instance.class_id
        return label


def read(folder: Path, options: SourceOptions) -> Source:
    """COCO-20i from a folder with annotations/ and the image folders of one release."""
    year = find_year(folder, options.year)
    classes: tuple[str, ...] = ()
    records: list[Record] = []
    for split in ("train", "val"):
        path = folder / "annotations" / f"instances_{split}{year}.json"
        names, of_split = read_split(path, image_folder(folder, f"{split}{year}"), split, year)
        if classes and names != classes:
            raise InputError(
                f"{path}: its categories differ from those of the train file. Download both again."
            )
        classes = names
        records += of_split
    return Source("coco-20i", classes, tuple(records), f"COCO {year} train and val", year)


def find_year(folder: Path, chosen: str) -> str:
    """The release in the folder. Raises InputError if there are two and none is chosen."""
    if chosen and chosen not in YEARS:
        raise InputError(f"--year {chosen}: COCO has the layouts {' and '.join(YEARS)}. Name one.")
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
            if item["image_id"] not in instances:
                raise ValueError(f"image {item['image_id']!r} has annotations and is not listed")
            instances[item["image_id"]].append(
                Instance(
                    class_ids.get(item["category_id"], 0),
                    item["category_id"],
                    _crowd(item),
                    item.get("segmentation"),
                )
            )
        records = [
            Record(
                f"{_id(item):012d}",
                split,
                images / plain_name(item["file_name"], f"{path}: image {item['id']}"),
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
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: not COCO's instances ({_reason(error)}). Download it again."
        ) from error
    different = min(len(class_ids), len({str(item["name"]) for item in categories}))
    if len(categories) != CLASSES or different < CLASSES:
        raise InputError(
            f"{path}: {len(categories)} categories, {different} of them different; COCO's "
            f"instances have {CLASSES}. Download it again."
        )
    return tuple(str(item["name"]) for item in categories), records


def _crowd(item: Mapping[str, Any]) -> bool:
    crowd = item["iscrowd"]
    if crowd not in (0, 1):
        raise ValueError(
            f"an annotation of image {item['image_id']} has iscrowd {ascii(crowd)[:40]}"
        )
    return bool(crowd)


def _id(item: Mapping[str, Any]) -> int:
    number = item["id"]
    if type(number) is not int or not 0 <= number < 10**12:
        raise ValueError(f"an image has the id {ascii(number)[:40]}")
    return number


def _reason(error: Exception) -> str:
    """One line in ASCII; a KeyError's text is only the key that is missing."""
    text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return ascii(text)[1:-1][:200]


def _side(item: Mapping[str, Any], name: str) -> int:
    side = item[name]
    if type(side) is not int or side < 1:
        raise ValueError(f"image {item['id']} has {name} {ascii(side)[:40]}")
    return side


def _read_json(path: Path) -> Any:
    try:
        with regular(path).open("rb") as stream:
            return json.load(stream)
    except FileNotFoundError:
        raise InputError(f"{path}: this file is missing. Unpack COCO's annotations.") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply for COCO. Download it again.") from None
    except ValueError as error:
        raise InputError(f"{path}: cut short or not JSON ({error}). Download it again.") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Check its permissions."
        ) from error
