"""The parts of a report. Every format is written from these, so that all have the same numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

MINUS = "−"

Rank = Literal["", "best", "second"]


@dataclass(frozen=True)
class Value:
    """A number of a table, and how it is shown."""

    number: float | None  # in the unit of its column; None if there is none
    decimals: int = 1
    signed: bool = False
    spread: float | None = None  # standard deviation, in the same unit
    interval: tuple[float, float] | None = None
    rank: Rank = ""  # in its column
    marks: str = ""  # *, †, ‡ and others that the legend explains
    trials: tuple[str, ...] = ()  # that the number comes from

    @property
    def shown(self) -> str:
        """The number alone, as printed in every format."""
        return shown(self.number, self.decimals, self.signed)

    @property
    def around(self) -> str:
        """What follows the number: its spread and its interval, each after a space."""
        text = ""
        if self.spread is not None:
            text += f" ± {shown(self.spread, self.decimals)}"
        if self.interval is not None:
            low, high = (shown(end, self.decimals, self.signed) for end in self.interval)
            text += f" [{low}, {high}]"
        return text

    @property
    def text(self) -> str:
        """The number with its spread, interval and marks."""
        return self.shown + self.around + (f" {self.marks}" if self.marks else "")


def shown(number: float | None, decimals: int, signed: bool = False) -> str:
    """The number with fixed decimals, or a dash; a typographic minus."""
    if number is None or math.isnan(number):
        return "–"
    sign = "+" if signed else ""
    text = f"{number:{sign}.{decimals}f}"
    if float(text) == 0:  # no minus before a zero
        text = f"{0.0:{sign}.{decimals}f}"
    return text.replace("-", MINUS)


Cell = str | Value


@dataclass(frozen=True)
class Heading:
    """The head of a column."""

    text: str
    numeric: bool = True  # aligned at the right


def text_headings(*texts: str) -> tuple[Heading, ...]:
    """The heads of columns of texts."""
    return tuple(Heading(text, numeric=False) for text in texts)


@dataclass(frozen=True)
class Line:
    """One row of a table. `kind` other than "": a line beneath a row, such as printed values."""

    cells: tuple[Cell, ...]
    kind: Literal["", "beneath"] = ""


@dataclass(frozen=True)
class Table:
    """A table. `name` is the name of its files; `legend` explains its marks."""

    name: str
    caption: str
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    legend: tuple[str, ...] = ()
    sortable: bool = True


@dataclass(frozen=True)
class Figure:
    """A figure, which `draw` makes as a matplotlib figure; `data` is its CSV.

    `arrays` are numbers that a CSV does not suit, such as maps [h, w] by name: its NPZ. A `picture`
    is made of photographs, so that the page shows it as pixels.
    """

    name: str
    caption: str
    draw: Callable[[], Any]
    data: Table
    arrays: Mapping[str, Any] = field(default_factory=dict)
    picture: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph. `tone` "warning" is for what a reader must know before the numbers."""

    text: str
    tone: Literal["", "warning", "verdict"] = ""


@dataclass(frozen=True)
class Points:
    """A list of sentences; `heading` is the sentence before them."""

    items: tuple[str, ...]
    heading: str = ""
    tone: Literal["", "warning"] = ""


@dataclass(frozen=True)
class Code:
    """Text that is shown as it is, such as commands."""

    text: str
    heading: str = ""


@dataclass(frozen=True)
class Tile:
    """One image of a picture, as the page has it."""

    title: str
    media: bytes  # WebP
    width: int  # pixels
    height: int


@dataclass(frozen=True)
class Picture:
    """One entry of a gallery: images in a row, what they show, what it can be sorted by."""

    name: str
    alt: str
    tiles: tuple[Tile, ...]
    facts: tuple[tuple[str, str | Value], ...]  # texts can be filtered by, numbers sorted by
    command: str  # that draws it again, larger


@dataclass(frozen=True)
class Gallery:
    """Pictures that a page can sort and filter by their facts."""

    name: str
    caption: str
    colours: tuple[tuple[str, str], ...]  # as CSS has them, and their meanings
    pictures: tuple[Picture, ...]


Part = Text | Points | Code | Table | Figure | Gallery


@dataclass(frozen=True)
class Section:
    """A chapter; `key` is its anchor in the page."""

    key: str
    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Document:
    """The whole report."""

    title: str
    sections: tuple[Section, ...]

    def tables(self) -> Sequence[Table]:
        return [part for one in self.sections for part in one.parts if isinstance(part, Table)]

    def figures(self) -> Sequence[Figure]:
        return [part for one in self.sections for part in one.parts if isinstance(part, Figure)]
