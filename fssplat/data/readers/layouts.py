"""The layouts that are read, by name, and how each is recognised.

A new layout is one module and one line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.similar import known
from fssplat.data.readers import coco, cvat, label_studio, labelme, mask_files, voc, yolo
from fssplat.data.readers.pictures import is_picture, pictures_in
from fssplat.data.readers.record import AnnotatedImage
from fssplat.data.readers.text_files import annotation_json, annotation_xml, json_or_none

Read = Callable[[Path, Sequence[Path]], list[AnnotatedImage]]


@dataclass(frozen=True)
class Layout:
    """A way to keep annotations on a disk."""

    description: str
    fits: Callable[[Path], bool]  # whether a path looks like it; cheap, never raises
    read: Read  # (path, folders that may have the pictures) -> its pictures


LAYOUTS: dict[str, Layout] = {
    "voc": Layout("VOC folders", voc.is_voc, voc.read),
    "yolo": Layout(
        "YOLO segmentation labels",
        lambda path: path.name in yolo.NAMES
        or (path.is_dir() and (bool(yolo.label_files(path)) or _has(path, yolo.NAMES))),
        yolo.read,
    ),
    "cvat": Layout(
        "CVAT for images XML",
        lambda path: _is_xml(path) or (path.is_dir() and _is_xml(path / "annotations.xml")),
        cvat.read,
    ),
    "label-studio": Layout(
        "Label Studio JSON", lambda path: _json_fits(path, label_studio.is_label_studio),
        label_studio.read,
    ),
    "coco": Layout("COCO JSON", lambda path: _json_fits(path, coco.is_coco), coco.read),
    "labelme": Layout(
        "LabelMe JSON", lambda path: _json_fits(path, labelme.is_labelme), labelme.read
    ),
    "folders": Layout(
        "images/ and masks/",
        lambda path: path.is_dir()
        and not voc.is_voc(path)
        and bool(mask_files.image_folder(path) and mask_files.mask_folder(path)),
        mask_files.read_folders,
    ),
    "pairs": Layout(
        "pictures beside their masks",
        lambda path: is_picture(path)
        if path.is_file()
        else bool(mask_files.pairs_in(path)) or _masks_alone(path),
        mask_files.read_pairs,
    ),
    "class-folders": Layout(
        "a folder of pairs for each class",
        lambda path: path.is_dir()
        and not mask_files.pairs_in(path)
        and bool(mask_files.class_folders(path)),
        mask_files.read_class_folders,
    ),
}  # fmt: skip


def find_layout(path: Path, chosen: str = "") -> str:
    """The name of the layout at a path; `chosen` names one and only has to exist.

    Raises InputError if nothing is there, or no layout or several fit.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder. Check the name.")
    if chosen:
        if chosen not in LAYOUTS:
            raise InputError(f"--layout {chosen}: unknown. {known(chosen, LAYOUTS)}")
        return chosen
    fitting = [name for name, layout in LAYOUTS.items() if layout.fits(path)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            f"{path}: {' and '.join(LAYOUTS[name].description for name in fitting)} are there. "
            f"Choose one with --layout {' or --layout '.join(fitting)}."
        )
    _require_readable(path)
    raise InputError(
        f"{path}: no annotations that are known. Known layouts (--layout): "
        f"{', '.join(f'{name} ({one.description})' for name, one in LAYOUTS.items())}."
    )


def read_layout(path: Path, layout: str, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """The annotated pictures at a path. Raises InputError; nothing is decoded yet."""
    try:
        return LAYOUTS[layout].read(path, images)
    except OSError as error:
        where = error.filename or path
        raise InputError(
            f"{where}: cannot be read ({error.strerror or error}). Check its permissions."
        ) from error


def _require_readable(path: Path) -> None:
    """Raises InputError if the annotation file at a path is damaged, so that it fits no layout."""
    files = [path] if path.is_file() else coco.annotation_files(path)[:1]
    for file in files:
        if file.suffix.lower() == ".json":
            annotation_json(file)
        elif file.suffix.lower() == ".xml":
            annotation_xml(file)


def _json_fits(path: Path, fits: Callable[[Any], bool]) -> bool:
    """Whether a JSON file, or the first one in a folder or in annotations/ of it, fits."""
    if path.is_file():
        return path.suffix.lower() == ".json" and fits(json_or_none(path))
    files = [one for one in coco.annotation_files(path) if one.name != mask_files.NAMES_FILE]
    return bool(files) and fits(json_or_none(files[0]))


def _is_xml(path: Path) -> bool:
    return path.suffix.lower() == ".xml" and path.is_file() and cvat.is_cvat(path)


def _has(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _masks_alone(folder: Path) -> bool:
    """Whether a folder has masks that `fssplat predict` wrote, whose pictures are elsewhere."""
    return (folder / mask_files.NAMES_FILE).is_file() and bool(pictures_in(folder, deep=True))
