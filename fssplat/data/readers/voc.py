"""VOC: JPEGImages/ and SegmentationClass/, with a palette PNG of class indices for each picture.

The classes are those of labelmap.txt, else VOC's own twenty. 255 is a border, which is ignored.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.data.readers.mask_files import MaskFile
from fssplat.data.readers.pictures import SUFFIXES, pictures_in
from fssplat.data.readers.record import AnnotatedImage, require_any
from fssplat.data.readers.text_files import annotation_text

IMAGES, MASKS = "JPEGImages", "SegmentationClass"
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle",
    "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person",
    "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
LINE = re.compile(r"([^:#]+):(\d+),(\d+),(\d+):.*")  # name:red,green,blue:parts:actions


def is_voc(root: Path) -> bool:
    """Whether a folder has VOC's two folders."""
    return (root / IMAGES).is_dir() and (root / MASKS).is_dir()


def read(root: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """The pictures that have a mask. Raises InputError if there is none, or a name has no file."""
    names = class_names(root / "labelmap.txt")
    splits = {
        name: split
        for split in ("train", "val", "test")
        for name in _listed(root / "ImageSets" / "Segmentation" / f"{split}.txt")
    }
    masks = {mask.stem: mask for mask in pictures_in(root / MASKS)}
    found = []
    for stem in sorted({*masks, *splits}):
        mask = masks.get(stem, root / MASKS / f"{stem}.png")
        folders = (root / IMAGES, *images)
        places = [folder / f"{stem}{suffix}" for folder in folders for suffix in SUFFIXES]
        picture = next((place for place in places if place.is_file()), places[0])
        found.append(AnnotatedImage(picture, MaskFile(mask, names), splits.get(stem, "")))
    return require_any(found, root / MASKS, "mask")


def class_names(path: Path) -> dict[str, str]:
    """Index -> class, or colour -> class if labelmap.txt has colours. Raises InputError."""
    if not path.is_file():
        return {str(number): name for number, name in enumerate(CLASSES, start=1)}
    lines = [line.strip() for line in annotation_text(path).splitlines()]
    names = {}
    for line in lines:
        found = LINE.fullmatch(line)
        if found and found[1] != "background":
            red, green, blue = (int(value) for value in found.group(2, 3, 4))
            names[f"#{red:02x}{green:02x}{blue:02x}"] = found[1]
    if not names:
        raise InputError(f"{path}: no line such as `cat:255,0,0::`. Export it again.")
    return names


def _listed(path: Path) -> list[str]:
    return annotation_text(path).split() if path.is_file() else []
