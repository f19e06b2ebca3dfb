"""Print the log of a job or of a point of a search."""

import re

from fssplat.common.passwords import hidden
from fssplat.common.printing import counted, say

LAST_LINES = 30  # of each log if several are shown
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
NOTHING = "Nothing is kept of what it printed: it has not started, or an older version ran it."


def print_log(found: bytes | None, last: int | None, command: str) -> None:
    """Print a log, or only its last lines and the command that prints all of them."""
    if not found:
        say(NOTHING)
        return
    rows = as_lines(found)
    if last is not None and len(rows) > last:
        say(f"... {counted(len(rows) - last, 'line')} before. All of them: {command}")
        rows = rows[-last:]
    say("\n".join(rows))


def as_lines(found: bytes) -> list[str]:
    """The lines of a log as a terminal leaves them: without colours, and of lines that overwrite
    each other, such as a progress bar's, only the last."""
    text = COLOUR.sub("", hidden(found.decode("utf-8", "replace")))
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return [line.rstrip("\r").rpartition("\r")[2] for line in lines]
