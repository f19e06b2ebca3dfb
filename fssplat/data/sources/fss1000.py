"""FSS-1000: a folder per class with ten images and their masks; each class is in one split.

A class id is the position in the lists: training classes first, then val, then test. Labels are
binary, because 1,000 ids do not fit into a byte: 1 means the class of the record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.data.masks.labels import Label
from fssplat.data.masks.object_masks import object_mask
from fssplat.data.sources.record import (
    BadSampleError,
    Record,
    Source,
    SourceOptions,
    names_in,
    safe_key,
)

LISTS = {"train": ("trn.txt", "train.txt"), "val": ("val.txt",), "test": ("test.txt",)}
SUFFIXES = (".jpg", ".jpeg")  # in any case
PLACES = (".", "fewshot_data", "fewshot_data/fewshot_data")


@dataclass(frozen=True)
class BinaryLabel:
    """A picture of one object, see `object_mask`; black and white as published."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> Label:
        if not self.path.exists():
            raise BadSampleError(f"{self.path}: the label is missing")
        try:
            return object_mask(self.path, str(self.path), soft=True)
        except InputError as error:
            raise BadSampleError(str(error).rstrip(".")) from error


def read(folder: Path, options: SourceOptions) -> Source:
    """FSS-1000 from its class folders and three class lists (in --lists, or beside the classes)."""
    splits = read_lists((options.lists,) if options.lists else (folder, *_places(folder)))
    if not splits["train"]:
        raise InputError("class lists: that of training is empty. Give complete ones with --lists.")
    root = find_root(folder, splits)
    classes = tuple(name for names in splits.values() for name in names)
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    if len(numbers) < len(classes):
        twice = sorted(name for name in numbers if classes.count(name) > 1)
        raise InputError(f"class lists: {', '.join(twice[:5])} is listed twice. Keep one entry.")
    records: list[Record] = []
    stray: list[Path] = []
    for split, names in splits.items():
        for name in names:
            of_class, left_out = class_records(root / name, split, numbers[name])
            records += of_class
            stray += left_out
    unlisted = sorted(
        path.name for path in root.iterdir() if path.is_dir() and path.name not in numbers
    )
    notes = [f"class folder {name} is in no list and was left out" for name in unlisted]
    notes += [
        f"{path.parent.name}/{path.name} is a .jpeg beside the annotated .jpg and was left out"
        for path in stray
    ]
    return Source(
        "fss-1000",
        classes,
        tuple(records),
        "FSS-1000",
        "2020",
        "binary",
        tuple(notes),
        {split: len(names) for split, names in splits.items() if names},
    )


def read_lists(folders: tuple[Path, ...]) -> dict[str, list[str]]:
    """Split -> class names, from the first folder with all three lists."""
    for folder in folders:
        found = {split: _first(folder, names) for split, names in LISTS.items()}
        if all(found.values()):
            return {split: names_in(path) for split, path in found.items() if path}
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


def class_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """(images, files that are left out) of one class.

    The archive as published has a few `.jpeg` beside the ten annotated `.jpg` of a class. One is
    left out if a `.jpg` has the same name, or if only `.jpg` files have labels.
    """
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    named = {path.stem for path in images if path.suffix.lower() == ".jpg"}
    stray = [
        path
        for path in images
        if path.suffix.lower() == ".jpeg"
        and (path.stem in named or (named and not label_path(path).exists()))
    ]
    return [path for path in images if path not in stray], stray


def label_path(image: Path) -> Path:
    """<name>.png of <name>.jpg; .PNG if only that is there."""
    small, large = image.with_suffix(".png"), image.with_suffix(".PNG")
    return large if large.exists() and not small.exists() else small


def class_records(folder: Path, split: str, number: int) -> tuple[list[Record], list[Path]]:
    """One record for each image of one class, and the files that are left out.

    Raises InputError if there is no image.
    """
    images, stray = class_images(folder)
    if not images:
        raise InputError(
            f"{folder}: the listed class {folder.name} has no image ({', '.join(SUFFIXES)}) there. "
            f"Unpack it again, or remove it from its list."
        )
    records = [
        Record(
            safe_key(f"{folder.name}_{image.stem}"),
            split,
            image,
            BinaryLabel(label_path(image)),
            "fss-1000",
            number,
        )
        for image in images
    ]
    return records, stray
