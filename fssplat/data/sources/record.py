"""What a source tells the converter: images, where their labels come from, class names."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from fssplat.common.errors import InputError
from fssplat.data.labels import Label

KEY_LENGTH = 90  # a tar header holds 100 characters, the longest suffix is .json


class BadSampleError(Exception):
    """This image cannot be used; the text says which file and why."""


class LabelSource(Protocol):
    """A label that can be read later, in another process."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is read from; when they change, the label may change."""

    def read(self) -> Label:
        """uint8 [H, W]. Raises BadSampleError."""


@dataclass(frozen=True)
class Record:
    """One image of a source."""

    key: str
    split: str  # train, val or test
    image: Path
    label: LabelSource
    origin: str  # which part of the source: voc, sbd, coco-2017, ...
    object_class: int = 0  # the class that a binary label's 1 means; 0: the label has class ids


@dataclass(frozen=True)
class Source:
    """Everything that the converter needs of a data set in its official layout."""

    name: str
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    source: str  # in words, for dataset.json
    year: str
    labels: Literal["class-index", "binary"] = "class-index"
    notes: tuple[str, ...] = ()  # what was left out on purpose, for the report
    class_counts: Mapping[str, int] = field(default_factory=dict)  # as in dataset.json


@dataclass(frozen=True)
class SourceOptions:
    """What some sources need beside their folder."""

    lists: Path | None = None  # folder of class split lists (fss-1000)
    year: str = ""  # which COCO release, where a folder holds both
    seed: int = 0  # of the synthetic pictures
    train_images: int = 700  # synthetic
    val_images: int = 300  # synthetic
    workers: int = 1  # processes that draw synthetic pictures


ReadSource = Callable[[Path, SourceOptions], Source]


def safe_key(name: str) -> str:
    """A WebDataset key from a file name: everything after a key's first dot would be its suffix."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:KEY_LENGTH]


def words(path: Path) -> list[str]:
    """The names in a list file, in order. Raises InputError where it is not text."""
    try:
        return path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a list of names in UTF-8. Unpack it again.") from error
