"""The one way to print: text of users is text, and a command stays on one line.

Names, folders, reasons and messages may hold anything. Square brackets are no markup here, and
characters that steer a terminal or turn the reading direction are printed as escapes.
"""

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# C0 but for line feed and tab, DEL, C1, line and paragraph separators, bidirectional controls, and
# halves of surrogate pairs: bytes of a file's name that are no UTF-8, which cannot be printed.
STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# The same, and tab and line feed: no such character can stand in a command on one line.
BREAKING = re.compile(STEERING.pattern[:-1] + "\t\n]")


def visible(text: str) -> str:
    """The text with every character that steers a terminal written as an escape, e.g. \\x1b."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """The text on one line, for a message: line breaks become spaces."""
    return visible(" ".join(text.split("\n"))).strip()


def short(text: str, most: int = 60) -> str:
    """`one_line`, cut to at most `most` characters."""
    clean = one_line(text)
    return clean if len(clean) <= most else f"{clean[: most - 3]}..."


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 trial", "2 trials", "1,000 classes"."""
    ending = "es" if noun.endswith(("s", "ch")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def whole_line(text: str) -> Text:
    """A line for a group of tables that is never wrapped or cut, so that it can be copied."""
    return Text(text, no_wrap=True, overflow="ignore")


def command_line(words: Iterable[object]) -> str:
    """A command as it can be pasted into bash or zsh, on one line, whatever its words hold."""
    return " ".join(_quoted(str(word)) for word in words)


def _quoted(part: str) -> str:
    """A word for a shell; `$'...'` with escapes if the screen cannot show all its characters."""
    if not BREAKING.search(part):
        return shlex.quote(part)
    text = part.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + BREAKING.sub(lambda found: _escape(found[0]), text) + "'"


def _escape(letter: str) -> str:
    """The bytes of a letter: `\\u202e` would depend on the shell's locale."""
    return "".join(f"\\x{byte:02x}" for byte in letter.encode())


class Screen(Console):
    """A console without markup, emoji codes, highlighting, or wrapping of plain text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; plain text is not wrapped, and nothing is cut at the right edge."""
        if all(isinstance(item, str | Text) for item in objects):
            options.setdefault("soft_wrap", True)
        options.setdefault("crop", False)
        super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich's, with `visible` text: a table's columns are as wide as what they show."""
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """As rich's, with `visible` text."""
        for segment in super().render(renderable, options):
            if segment.control or not STEERING.search(segment.text):
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


def say(text: str, end: str = "\n", file: IO[str] | None = None) -> None:
    """Print plain text to standard output, or to `file`, at once."""
    print(visible(text), end=end, file=file or sys.stdout, flush=True)


def complain(text: str) -> None:
    """Print a message of one line to standard error."""
    print(f"fssplat: {one_line(text)}", file=sys.stderr, flush=True)
