"""Text in two columns that fit the terminal: names with their meaning."""

import re
import shutil
import textwrap
from collections.abc import Iterable

NARROWEST = 60  # columns
COMMAND = re.compile("`[^`]*`")  # stays on one line, so that it can be copied


def columns(rows: Iterable[tuple[str, str]], indent: int = 0, widest: int = 26) -> str:
    """Lines with the name at the left and its text beside it, wrapped between words.

    The text of a name longer than `widest` starts on the next line.
    """
    rows = list(rows)
    width = max(NARROWEST, shutil.get_terminal_size().columns)
    first = min(widest, max((len(name) for name, _ in rows), default=0)) + 2
    lines = []
    for name, text in rows:
        room = max(20, width - indent - first)
        wrapped = _wrapped(text, room) or [""]
        head = f"{name:<{first}}"
        if len(name) > widest:
            lines.append(" " * indent + name)
            head = " " * first
        lines.append(" " * indent + head + wrapped[0])
        lines += [" " * (indent + first) + line for line in wrapped[1:]]
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str, room: int) -> list[str]:
    whole = COMMAND.sub(lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(whole, room, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]
