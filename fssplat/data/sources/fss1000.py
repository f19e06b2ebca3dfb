"""FSS-1000: a folder per class with ten images and their masks; each class is in one split.

A class id is the position in the lists: training classes first, then val, then test. Labels are
binary, because 1,000 ids do not fit into a byte: 1 means the class of the record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.labels import UNREADABLE, Label
from fssplat.data.sources.record import (
    BadSampleError,
    Record,
    Source,
    SourceOptions,
    safe_key,
    words,
)

LISTS = {"train": ("trn.txt", "train.txt"), "val": ("val.txt",), "test": ("test.txt",)}
SUFFIXES = (".jpg", ".jpeg")  # in any case
PLACES = (".", "fewshot_data", "fewshot_data/fewshot_data")
THRESHOLD = 128  # least grey value of an object pixel in a mask


@dataclass(frozen=True)
class BinaryLabel:
    """A black and white picture, grey or RGB."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> Label:
        try:
            with Image.open(self.path) as picture:
                grey = np.array(picture.convert("L"))
        except FileNotFoundError:
            raise BadSampleError(f"{self.path}: the label is missing") from None
        except UNREADABLE as error:
            raise BadSampleError(f"{self.path}: the label cannot be read ({error})") from error
        return (grey >= THRESHOLD).astype(np.uint8)


def read(folder: Path, options: SourceOptions) -> Source:
    """FSS-1000 from its class folders and three class lists (in --lists, or beside the classes)."""
    splits = read_lists((options.lists,) if options.lists else (folder, *_places(folder)))
    root = find_root(folder, splits)
    classes = tuple(name for names in splits.values() for name in names)
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    if len(numbers) < len(classes):
        twice = sorted(name for name in numbers if classes.count(name) > 1)
        raise InputError(f"class lists: {', '.join(twice[:5])} is listed twice. Keep one entry.")
    records = [
        record
        for split, names in splits.items()
        for name in names
        for record in class_records(root / name, split, numbers[name])
    ]
    unlisted = sorted(
        path.name for path in root.iterdir() if path.is_dir() and path.name not in numbers
    )
    notes = tuple(f"class folder {name} is in no list and was left out" for name in unlisted)
    return Source(
        "fss-1000",
        classes,
        tuple(records),
        "FSS-1000",
        "2020",
        "binary",
        notes,
        {split: len(names) for split, names in splits.items() if names},
    )


def read_lists(folders: tuple[Path, ...]) -> dict[str, list[str]]:
    """Split -> class names, from the first folder with all three lists."""
    for folder in folders:
        found = {split: _first(folder, names) for split, names in LISTS.items()}
        if all(found.values()):
            return {split: words(path) for split, path in found.items() if path}
    wanted = ", ".join(" or ".join(names) for names in LISTS.values())
    raise InputError(
        f"{folders[0]}: no class lists there ({wanted}, with one class name per line). "
        f"Give their folder with --lists."
    )


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _places(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / place for place in PLACES)


def find_root(folder: Path, splits: Mapping[str, list[str]]) -> Path:
    """The folder with the class folders. Raises InputError if listed classes have no folder."""
    names = [name for of_split in splits.values() for name in of_split]
    missing = {
        root: [name for name in names if not (root / name).is_dir()] for root in _places(folder)
    }
    root = min(missing, key=lambda place: len(missing[place]))
    if missing[root]:
        shown = ", ".join(missing[root][:5])
        raise InputError(
            f"{root}: {len(missing[root])} of {len(names)} listed classes have no folder there "
            f"({shown}). Give --source the folder that contains the class folders."
        )
    return root


def class_records(folder: Path, split: str, number: int) -> list[Record]:
    """The images of one class; the label of <name>.jpg is <name>.png.

    Raises InputError if there is no image.
    """
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise InputError(
            f"{folder}: the listed class {folder.name} has no image ({', '.join(SUFFIXES)}) there. "
            f"Unpack it again, or remove it from its list."
        )
    return [
        Record(
            safe_key(f"{folder.name}_{image.stem}"),
            split,
            image,
            BinaryLabel(image.with_suffix(".png")),
            "fss-1000",
            number,
        )
        for image in images
    ]
