"""One annotated picture of any layout: its file, and the masks of its classes when they are asked.

Nothing is decoded before `load`, so that thousands of records can be counted or sent to another
process. A layout has one class of annotation; most are `Shapes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from fssplat.common.errors import InputError
from fssplat.data.masks.labels import IGNORE, Label
from fssplat.data.readers.pictures import Picture, read_picture
from fssplat.data.readers.shapes.coco_shapes import Inside
from fssplat.data.transforms import Pixels


class Annotation(Protocol):
    """The classes that are marked in one picture."""

    @property
    def where(self) -> str:
        """The file, and the entry in it; messages start with it."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the masks depend on."""
        ...

    def classes(self) -> set[str]:
        """The classes of which something is marked, before anything is drawn if possible.

        Raises InputError if a file cannot be read.
        """
        ...

    def size(self) -> tuple[int, int] | None:
        """(height, width) of the picture that was marked; None if its numbers are shares of it.

        Raises InputError if a file cannot be read.
        """
        ...

    def masks(self, height: int, width: int) -> dict[str, Label]:
        """Class -> uint8 [height, width]: 1 the class, 0 other, 255 ignored.

        Raises InputError if it cannot be read or cannot be right.
        """
        ...


@dataclass(frozen=True)
class AnnotatedImage:
    """A picture and what is marked in it."""

    image: Path
    annotation: Annotation
    split: str = ""  # train, val or test, if the layout says so
    embedded: bytes = b""  # the picture itself, if the annotation has it and the file is missing


class LoadedImage(NamedTuple):
    """The pixels of a picture and of its classes."""

    pixels: Pixels  # uint8 RGB [H, W, 3], turned by EXIF
    masks: dict[str, Label]  # class -> uint8 [H, W]: 1 the class, 0 other, 255 ignored


def load(one: AnnotatedImage) -> LoadedImage:
    """Decode a picture and draw its masks.

    An annotation refers to the picture as it is shown. If only the stored size fits, it refers to
    the stored pixels, and its masks are turned as the picture is. Raises InputError.
    """
    picture = read_picture(one.embedded or one.image, str(one.image))
    size = one.annotation.size() or picture.size
    stored = size != picture.size and size == picture.stored_size
    _check_size(one, size, picture)
    masks = one.annotation.masks(*size)
    if stored:
        masks = {name: picture.turn(mask) for name, mask in masks.items()}
    return LoadedImage(picture.pixels, masks)


def _check_size(one: AnnotatedImage, size: tuple[int, int], picture: Picture) -> None:
    if size in (picture.size, picture.stored_size):
        return
    turned = " (one of them is turned)" if size[::-1] == picture.size else ""
    raise InputError(
        f"{one.annotation.where}: it is for a picture of {size[0]} x {size[1]} (height x width), "
        f"but {one.image} has {picture.size[0]} x {picture.size[1]}{turned}. Mark that picture "
        "again, or replace it by the one that was marked."
    )


def class_name(given: Any, what: str) -> str:
    """The name of a class as a file gives it, a text or a number.

    Raises ValueError, which starts with `what`, for another value or an empty text.
    """
    if isinstance(given, bool) or not isinstance(given, str | int) or not str(given).strip():
        raise ValueError(f"{what} has no name of a class, but {given!a:.40}")
    return str(given)


def reason_of(error: Exception) -> str:
    """What is wrong with an entry, from the error that reading it raised."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return f"a value is missing or wrong ({str(error)[:120]})"


# ------------------------------------------------------------------ shapes


class Shape(Protocol):
    """A region of one picture."""

    def draw(self, height: int, width: int) -> Inside:
        """bool [height, width]. Raises ValueError, which says what is wrong."""
        ...


class Part(NamedTuple):
    """A region with its class."""

    name: str  # of the class
    shape: Shape
    ignored: bool = False  # such as a crowd: neither the class nor background


@dataclass(frozen=True)
class Shapes:
    """An annotation that is a list of regions; those of one class are joined."""

    where: str
    files: tuple[Path, ...]
    declared: tuple[int, int] | None  # (height, width) that the file names
    parts: tuple[Part, ...]

    def classes(self) -> set[str]:
        return {part.name for part in self.parts if not part.ignored}

    def size(self) -> tuple[int, int] | None:
        return self.declared

    def masks(self, height: int, width: int) -> dict[str, Label]:
        found: dict[str, Label] = {}
        for part in sorted(self.parts, key=lambda part: not part.ignored):
            try:
                inside = part.shape.draw(height, width)
            except ValueError as error:
                raise InputError(
                    f"{self.where}: a region of {part.name!a} cannot be right: {error}. Draw it "
                    "again, or delete it."
                ) from error
            label = found.setdefault(part.name, np.zeros((height, width), dtype=np.uint8))
            label[inside] = IGNORE if part.ignored else 1
        return found


def declared_size(height: object, width: object, where: str) -> tuple[int, int]:
    """The size that a file names. Raises InputError if it is not two whole numbers above 0."""
    sides = [int(s) if isinstance(s, str) and s.isdecimal() else s for s in (height, width)]
    if not all(type(side) is int and 0 < side <= 65_535 for side in sides):
        shown = f"{height!a} x {width!a}"[:60]
        raise InputError(
            f"{where}: the size {shown} (height x width) is no size of a picture. Export it again."
        )
    return sides[0], sides[1]  # type: ignore[return-value]


def require_any(found: Sequence[AnnotatedImage], root: Path, what: str) -> list[AnnotatedImage]:
    """The records. Raises InputError if there is none."""
    if not found:
        raise InputError(f"{root}: no {what} there. Give the folder or the file that has some.")
    return list(found)
