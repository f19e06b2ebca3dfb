"""A source in its official layout: its images, how to read their labels, its class names."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.common.plain_names import plain_name
from fssplat.data.masks.labels import Label
from fssplat.data.readers.class_choice import EVERY_CLASS, ClassChoice
from fssplat.experiment.datasets import Fold

KEY_LENGTH = 90  # a tar header has room for 100 characters; the longest suffix is .json


class BadSampleError(Exception):
    """An image cannot be used; the message names the file and the reason."""


class LabelSource(Protocol):
    """Reads a label later, possibly in another process."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the label depends on."""

    def read(self) -> Label:
        """uint8 [H, W]. Raises BadSampleError if the label cannot be read."""


@dataclass(frozen=True)
class Record:
    """One image of a source."""

    key: str
    split: str  # train, val or test
    image: Path
    label: LabelSource
    origin: str  # which part of the source: voc, sbd, coco-2017, ...
    object_class: int = 0  # class id that 1 means in a binary label; 0: the label has class ids
    # Turn the image by its EXIF data, and store another format than JPEG as JPEG. The built-in data
    # sets keep the bytes, because their labels refer to the pixels as stored.
    upright: bool = False
    content: bytes = b""  # the image itself, if there is no file


@dataclass(frozen=True)
class Source:
    """A data set in its official layout, ready to be converted."""

    name: str
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    source: str  # description for dataset.json
    year: str
    labels: Literal["class-index", "binary"] = "class-index"
    notes: tuple[str, ...] = ()  # what was left out on purpose, for the report
    class_counts: Mapping[str, int] = field(default_factory=dict)  # as in dataset.json
    folds: tuple[Fold, ...] = ()  # of a data set of your own
    options: str = ""  # what else decides the labels, of a data set of your own


@dataclass(frozen=True)
class SourceOptions:
    """Options of some sources."""

    lists: Path | None = None  # folder of class split lists (fss-1000)
    year: str = ""  # COCO release, if a folder has both
    seed: int = 0  # decides the synthetic pictures
    train_images: int = 700  # synthetic
    val_images: int = 300  # synthetic
    workers: int = 1  # processes that draw synthetic pictures
    own: "OwnOptions | None" = None  # of a data set of your own


@dataclass(frozen=True)
class OwnOptions:
    """How a data set of your own is read."""

    layout: str = ""  # name of a layout; empty: the one that is found
    choice: ClassChoice = EVERY_CLASS
    images: tuple[Path, ...] = ()  # other folders that may have the pictures
    folds: str = "4"  # their number, or a file with lists of classes
    val_share: float = 0.3  # of the images for the test, if the layout has no splits


ReadSource = Callable[[Path, SourceOptions], Source]


def safe_key(name: str) -> str:
    """A WebDataset key from a file name; without dots, since a suffix starts at the first one."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:KEY_LENGTH]


def names_in(path: Path) -> list[str]:
    """The names in a list file, in order; blanks, CRLF and a byte order mark do not count.

    Raises InputError if it is not UTF-8 text, or if a name cannot be a file's name.
    """
    try:
        names = regular(path).read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a list of names in UTF-8. Unpack it again.") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Check its permissions."
        ) from error
    return [plain_name(name, str(path)) for name in names]
