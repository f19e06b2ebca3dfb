"""Pictures with a mask file each: pairs in one folder, images/ and masks/, or a folder per class.

a.jpg a.png            the mask has the picture's name, or it and _mask, -mask, _label or _gt
images/a.jpg masks/a.png
cat/a.jpg cat/a.png    the folder is the class
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.data.masks.labels import IGNORE, UNREADABLE, Label
from fssplat.data.masks.object_masks import objects_in
from fssplat.data.readers.pictures import SUFFIXES, is_picture, pictures_in
from fssplat.data.readers.record import AnnotatedImage, require_any
from fssplat.data.readers.shapes.coco_shapes import Inside
from fssplat.data.readers.text_files import annotation_json

ENDINGS = ("_mask", "-mask", ".mask", "_label", "_gt", "_seg")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp")
IMAGE_FOLDERS = ("images", "imgs", "image", "JPEGImages")
MASK_FOLDERS = ("masks", "mask", "labels", "annotations", "gt", "SegmentationClass")
NAMES_FILE = "classes.json"  # beside masks that `fssplat predict` wrote
VOC_BORDER = "#e0e0c0"  # colour of index 255 in the palette of VOC
SHOWN = 6  # classes in a message


@dataclass(frozen=True)
class MaskFile:
    """A mask of one or several classes.

    `names` gives the classes of grey values or palette indices ("3"), or of colours ("#ff0000").
    Without names, a class is called by its value; `single` is the class if there can be only one.
    """

    path: Path
    names: Mapping[str, str] = field(default_factory=dict)
    single: str = ""

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def classes(self) -> set[str]:
        return set(self.masks(*self.size()))

    def size(self) -> tuple[int, int]:
        try:
            with Image.open(regular(self.path)) as picture:  # reads the header alone
                return picture.height, picture.width
        except FileNotFoundError:
            raise InputError(f"{self.path}: the mask is missing. Put it there.") from None
        except UNREADABLE as error:
            reason = "it is no picture" if "cannot identify" in str(error) else str(error)
            raise InputError(f"{self.path}: the mask cannot be read ({reason}).") from error

    def masks(self, height: int, width: int) -> dict[str, Label]:
        if self.names:
            return self._named()
        found = objects_in(self.path, str(self.path))
        if not self.single or not found:
            return found
        if len(found) > 1:
            raise InputError(
                f"{self.path}: the mask has the values 0, {', '.join(found)}. A mask in a folder "
                "of one class has 0 and one more value."
            )
        return {self.single: next(iter(found.values()))}

    def _named(self) -> dict[str, Label]:
        values, ignored = _values(self.path, coloured=any(v.startswith("#") for v in self.names))
        unknown = sorted(set(values) - set(self.names))
        if unknown:
            shown = ", ".join(f"{value}={name}" for value, name in [*self.names.items()][:SHOWN])
            raise InputError(
                f"{self.path}: the mask has the value {unknown[0]}, which is no class. Classes: "
                f"{shown}{', ...' * (len(self.names) > SHOWN)}."
            )
        return {
            self.names[value]: np.where(ignored, IGNORE, inside).astype(np.uint8)
            for value, inside in values.items()
        }


def _values(path: Path, coloured: bool) -> tuple[dict[str, Inside], Inside]:
    """Where each value or colour is, without background, and where a border is ignored.

    Raises InputError if the file cannot be read, or has colours where indices are needed.
    """
    try:
        with Image.open(regular(path)) as picture:
            if not coloured and picture.mode not in ("P", "L", "1"):
                raise InputError(
                    f"{path}: the mask is {picture.mode}; needed are grey values or palette "
                    "indices, one for each class."
                )
            pixels = np.array(picture.convert("RGB") if coloured else picture, dtype=np.uint8)
    except UNREADABLE as error:
        raise InputError(f"{path}: the mask cannot be read ({error}).") from error
    if not coloured:
        found = [int(value) for value in np.unique(pixels) if value not in (0, IGNORE)]
        return {str(value): pixels == value for value in found}, pixels == IGNORE
    numbers = pixels.astype(np.int64) @ (65_536, 256, 1)
    names = {f"#{int(v):06x}": numbers == v for v in np.unique(numbers) if v}
    border = names.pop(VOC_BORDER, np.zeros(numbers.shape, dtype=bool))
    return names, border


# ------------------------------------------------------------------ pairs


def read_pairs(root: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """Pictures and masks in one folder, or one picture beside its mask. Raises InputError.

    A folder of masks alone, as `fssplat predict` writes it, finds its pictures in `images`.
    """
    if root.is_file():
        return [AnnotatedImage(root, MaskFile(require_mask(root)))]
    names = named_values(root)
    found = [AnnotatedImage(p, MaskFile(m, names)) for p, m in pairs_in(root)]
    if not found and images:
        found = [AnnotatedImage(p, MaskFile(m, names)) for p, m in _elsewhere(root, images)]
    return require_any(found, root, "picture with a mask of its name (a.jpg and a.png)")


def pairs_in(folder: Path) -> list[tuple[Path, Path]]:
    """Each picture of a folder that has a mask beside it."""
    masks = {
        mask: picture for picture in pictures_in(folder) for mask in [mask_of(picture)] if mask
    }
    return sorted((picture, mask) for mask, picture in masks.items() if picture not in masks)


def mask_of(picture: Path, folder: Path | None = None) -> Path | None:
    """The mask file of a picture, in its own folder or another one; None if there is none."""
    folder = folder or picture.parent
    for ending in ("", *ENDINGS):
        for suffix in (*MASK_SUFFIXES, *(s.upper() for s in MASK_SUFFIXES)):
            for stem in (picture.stem, picture.name):
                mask = folder / f"{stem}{ending}{suffix}"
                if mask != picture and mask.is_file():
                    return mask
    return None


def require_mask(picture: Path) -> Path:
    """The mask beside a picture. Raises InputError."""
    mask = mask_of(picture)
    if mask is None:
        raise InputError(
            f"{picture}: no mask beside it. Needed is {picture.stem}.png or "
            f"{picture.stem}_mask.png, or an annotation file."
        )
    return mask


def _elsewhere(root: Path, images: Iterable[Path]) -> list[tuple[Path, Path]]:
    """The masks below a folder, each with the picture of the same relative name in `images`."""
    found = []
    for mask in pictures_in(root, deep=True):
        stem = mask.relative_to(root).with_suffix("")
        for folder in images:
            places = [folder / f"{stem}{suffix}" for suffix in (*SUFFIXES, ".JPG", ".JPEG", ".PNG")]
            picture = next((p for p in (folder / stem, *places) if p.is_file()), None)
            if picture is not None and is_picture(picture):
                found.append((picture, mask))
                break
    return found


def named_values(folder: Path) -> dict[str, str]:
    """Value -> class from classes.json of a folder; empty without it. Raises InputError."""
    path = folder / NAMES_FILE
    if not path.is_file():
        return {}
    content = annotation_json(path)
    valid = isinstance(content, dict) and all(
        isinstance(name, str) and re.fullmatch(r"[1-9][0-9]{0,2}", value)
        for value, name in content.items()
    )
    if not valid:
        raise InputError(f'{path}: needed is {{"1": "cat", ...}}: a class for each value.')
    return dict(content)


# ------------------------------------------------------------------ folders


def image_folder(root: Path) -> Path | None:
    """The folder of pictures beside a folder of masks; None if there is none."""
    return next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)


def mask_folder(root: Path) -> Path | None:
    """The folder of mask files; None if there is none."""
    folders = [root / name for name in MASK_FOLDERS if (root / name).is_dir()]
    return next((one for one in folders if pictures_in(one, deep=True)), None)


def read_folders(root: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """images/ and masks/. Raises InputError for a picture or a mask without the other."""
    pictures, masks = image_folder(root), mask_folder(root)
    if pictures is None or masks is None:
        raise InputError(f"{root}: no images/ with masks/ beside it. Give --layout another.")
    names = named_values(root) or named_values(masks)
    found = []
    for picture in pictures_in(pictures, deep=True):
        place = masks / picture.relative_to(pictures).parent
        mask = mask_of(picture, place) or place / f"{picture.stem}.png"
        split = next((part for part in ("train", "val", "test") if part in place.parts), "")
        found.append(AnnotatedImage(picture, MaskFile(mask, names), split))
    _check_all_used(found, pictures_in(masks, deep=True), pictures)
    return require_any(found, pictures, "picture")


def _check_all_used(found: Sequence[AnnotatedImage], masks: list[Path], pictures: Path) -> None:
    used = {file for one in found for file in one.annotation.files}
    left = [mask for mask in masks if mask not in used]
    if left:
        raise InputError(
            f"{left[0]}: no picture of this name in {pictures}. Put it there, or delete the mask."
        )


# ------------------------------------------------------------------ a folder per class


def read_class_folders(root: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """Pairs in folders that are named after their class. Raises InputError."""
    found = [
        AnnotatedImage(picture, MaskFile(mask, single=folder.name))
        for folder in class_folders(root)
        for picture, mask in pairs_in(folder)
    ]
    return require_any(found, root, "folder of pairs (cat/a.jpg and cat/a.png)")


def class_folders(root: Path) -> list[Path]:
    """The folders directly below one that hold pairs."""
    known = {*IMAGE_FOLDERS, *MASK_FOLDERS}
    folders = sorted(one for one in root.iterdir() if one.is_dir() and one.name not in known)
    return [one for one in folders if not one.name.startswith(".") and pairs_in(one)]
