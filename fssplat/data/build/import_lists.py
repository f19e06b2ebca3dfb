"""Import the public code's list files into lists/<name>.parquet beside a data set.

PFENet  <place>/pascal/voc_sbd_merge_noduplicate.txt, val.txt: `image label`, one a line.
HSNet   <place>/pascal/{trn,val}/fold<f>.txt: `image__class`, one a line.
        <place>/coco/{trn,val}/fold<f>.pkl: class from 0 -> image files.
        <place>/fss/{trn,val,test}.txt: class names.

The files of the folds repeat each other (a fold's training list names all other classes), so one
list per role is stored, in the order of the files.
"""

import io
import pickle
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.common.whole_files import write_bytes
from fssplat.data.folds import classes_of_split
from fssplat.data.index import Dataset
from fssplat.data.places import build_command
from fssplat.data.public_lists import FOLDER, SCHEMA, forget_lists
from fssplat.data.sources.record import safe_key
from fssplat.experiment.datasets import BUILT_IN

PLACES = {
    "pfenet": (".", "pfenet", "lists", "PFENet/lists"),
    "hsnet": (".", "hsnet", "data/splits", "hsnet/data/splits"),
}
# CRC-32 of the lists as published (see `checksum`); the import reports lists that differ.
PUBLISHED = {
    ("pascal-5i", "pfenet-train"): 1848734428,
    ("pascal-5i", "pfenet-val"): 202243954,
    ("pascal-5i", "hsnet-train"): 651526160,
    ("pascal-5i", "hsnet-val"): 3211651686,
    ("coco-20i", "hsnet-train"): 711636355,
    ("coco-20i", "hsnet-val"): 3850460655,
    ("fss-1000", "hsnet-classes"): 2391966793,
}
PICKLE_LIMIT = 64 * 2**20  # bytes; the largest public pickle has 4 MiB


@dataclass(frozen=True)
class Line:
    """One entry: an image by the data set's key, and the class that it is listed for (0: any)."""

    key: str
    class_id: int
    entry: str  # text in the file


@dataclass(frozen=True)
class Imported:
    """The result of importing one list."""

    name: str
    lines: int
    images: int
    unmatched: tuple[str, ...]  # entries whose image (or class) is not in the data set
    published: bool  # whether it equals the list of the public code, line for line


def import_lists(dataset: Dataset, source: Path) -> tuple[Imported, ...]:
    """Read every public list of the data set found under `source` and store it beside the data.

    Raises InputError if there is none, or if a file has an unexpected format.
    """
    name = dataset.info.name
    readers = _readers(dataset)
    imported = []
    for list_name, read in readers.items():
        code = list_name.partition("-")[0]
        found = (read(source / place) for place in PLACES[code])
        lines = next((lines for lines in found if lines is not None), None)
        if lines is not None:
            imported.append(_store(dataset, list_name, lines))
    if not imported:
        kinds = ", ".join(readers) or "none are published for it"
        raise InputError(
            f"{source}: no public lists of {name} there (wanted: {kinds}). Give the folder that "
            f"holds the public code's lists, e.g. one with pfenet/pascal/val.txt."
        )
    forget_lists()
    return tuple(imported)


def _readers(dataset: Dataset) -> Mapping[str, Callable[[Path], list[Line] | None]]:
    """List name -> function that reads it from a folder, or returns None if it is not there."""
    if dataset.info.name == "pascal-5i":
        return {
            "pfenet-train": lambda place: _pfenet(place, "voc_sbd_merge_noduplicate.txt"),
            "pfenet-val": lambda place: _pfenet(place, "val.txt"),
            "hsnet-train": lambda place: _hsnet_pascal(place, "trn"),
            "hsnet-val": lambda place: _hsnet_pascal(place, "val"),
        }
    if dataset.info.name == "coco-20i":
        return {
            "hsnet-train": lambda place: _hsnet_coco(place, "trn"),
            "hsnet-val": lambda place: _hsnet_coco(place, "val"),
        }
    if dataset.info.name == "fss-1000":
        return {"hsnet-classes": lambda place: _hsnet_fss(place, dataset)}
    return {}


def _store(dataset: Dataset, name: str, lines: list[Line]) -> Imported:
    """Write a list beside the data set and compare it with the data set."""
    known = set(dataset.info.classes if name == "hsnet-classes" else dataset.keys)
    unmatched = tuple(line.entry for line in lines if line.key not in known)
    columns = [[getattr(line, field.name) for line in lines] for field in SCHEMA]
    arrays = [pa.array(values, type=f.type) for values, f in zip(columns, SCHEMA, strict=True)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), buffer, compression="zstd")
    _write(f"{dataset.root}/{FOLDER}", f"{name}.parquet", buffer.getvalue())
    images = len({line.key for line in lines})
    published = checksum(lines) == PUBLISHED[dataset.info.name, name]
    return Imported(name, len(lines), images, unmatched, published)


def checksum(lines: list[Line]) -> int:
    """CRC-32 of `key class`, one a line."""
    return zlib.crc32("\n".join(f"{line.key} {line.class_id}" for line in lines).encode())


def _write(folder: str, name: str, content: bytes) -> None:
    import fsspec

    if "://" in folder:  # a write to a bucket is atomic
        with fsspec.open(f"{folder}/{name}", "wb") as stream:
            stream.write(content)
        return
    try:
        write_bytes(Path(folder) / name, content)
    except OSError as error:
        raise InputError(f"{folder}/{name}: cannot be written ({error.strerror}).") from error


# ---------------------------------------------------------------- the files


def _pfenet(place: Path, file: str) -> list[Line] | None:
    path = place / "pascal" / file
    if not path.is_file():
        return None
    lines = []
    for number, text in _text_lines(path):
        image = text.split()[0]
        if not image.endswith(".jpg"):
            raise InputError(f"{path}, line {number}: {text[:60]!r} is not `image.jpg label.png`.")
        lines.append(Line(key_of(image), 0, image))
    return lines


def _folds(name: str) -> range:
    return range(BUILT_IN[name].folds)


def _hsnet_pascal(place: Path, part: str) -> list[Line] | None:
    paths = [
        place / "pascal" / part / f"fold{fold}.txt" for fold in range(BUILT_IN["pascal-5i"].folds)
    ]
    if not _all_there(paths):
        return None
    lines = []
    for path in paths:
        for number, text in _text_lines(path):
            match = re.fullmatch(r"(\S+)__(\d{1,2})", text)
            if match is None or not 1 <= int(match[2]) <= 20:
                raise InputError(
                    f"{path}, line {number}: {text[:60]!r} is not `image__class`, class 01 to 20."
                )
            lines.append(Line(key_of(match[1]), int(match[2]), text))
    return lines


def _hsnet_coco(place: Path, part: str) -> list[Line] | None:
    """Class by class, each in the order of its list, in which the public code draws."""
    paths = [
        place / "coco" / part / f"fold{fold}.pkl" for fold in range(BUILT_IN["coco-20i"].folds)
    ]
    if not _all_there(paths):
        return None
    images: dict[int, list[str]] = {}
    for path in paths:
        for class_index, names in _class_lists(path).items():
            known = images.get(class_index, [])
            if names and known and names != known:
                raise InputError(
                    f"{path}: class {class_index} has other images than in the previous folds. "
                    f"Take all four files from one version of the public code."
                )
            images[class_index] = known or names
    return [Line(key_of(n), c + 1, n) for c in sorted(images) for n in images[c]]


def _hsnet_fss(place: Path, dataset: Dataset) -> list[Line] | None:
    """Class names. Raises InputError if a class is in another split of the data set."""
    parts = {"train": "trn", "val": "val", "test": "test"}
    paths = {split: place / "fss" / f"{name}.txt" for split, name in parts.items()}
    if not _all_there(list(paths.values())):
        return None
    numbers = {name: number for number, name in enumerate(dataset.info.classes, start=1)}
    lines = []
    for split, path in paths.items():
        has_some = split in dataset.info.class_counts
        here = set(classes_of_split(dataset.info, split)) if has_some else set()
        for number, name in _text_lines(path):
            if name in numbers and numbers[name] not in here:
                command = build_command(
                    "fss-1000", "--lists", path.parent, "--out", dataset.root, "--overwrite"
                )
                raise InputError(
                    f"{path}, line {number}: {name} is not a {split} class of {dataset.root}. "
                    f"Run `{command}`."
                )
            lines.append(Line(name, numbers.get(name, 0), name))
    return lines


def _all_there(paths: list[Path]) -> bool:
    """Whether all files exist. Raises InputError if only some do."""
    missing = [path for path in paths if not path.is_file()]
    if missing and len(missing) < len(paths):
        raise InputError(f"{missing[0]}: missing, while {len(paths)} such files make one list.")
    return not missing


def key_of(name: str) -> str:
    """The data set's key of an image: the stem of its file, or for COCO the 12 digits in it."""
    stem = name.rpartition("/")[2].removesuffix(".jpg")
    coco = re.fullmatch(r"COCO_\w+_(\d{12})", stem)
    return coco[1] if coco else safe_key(stem)


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers from 1."""
    try:
        text = regular(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


# ---------------------------------------------------------------- pickles


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, strings, lists and dicts; refuses pickles that import anything."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it imports {module}.{name}")

    def persistent_load(self, reference: Any) -> Any:
        raise pickle.UnpicklingError("it refers to an object outside the file")


def plain_pickle(path: Path) -> Any:
    """The value of a pickle that contains only plain values. No code from the file runs.

    Raises InputError for any other file.
    """
    try:
        content = regular(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(content) > PICKLE_LIMIT:
        raise InputError(f"{path}: {len(content):,} bytes is too much for a list of images.")
    try:
        return _PlainUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # damaged pickles raise many kinds of errors
        raise InputError(
            f"{path}: not a pickle of plain strings, lists and dicts ({error}). No code in it "
            f"was run. Take the file from the public code again."
        ) from error


def _class_lists(path: Path) -> dict[int, list[str]]:
    value = plain_pickle(path)
    right = isinstance(value, dict) and all(
        isinstance(key, int) and isinstance(names, list) and all(isinstance(n, str) for n in names)
        for key, names in value.items()
    )
    if not right or not all(0 <= key < 80 for key in value):
        raise InputError(f"{path}: not a dict from class (0 to 79) to a list of image names.")
    return dict(value)
