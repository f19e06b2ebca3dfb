"""Text in two columns that fit the terminal: names with their meaning."""

import shutil
import textwrap
from collections.abc import Iterable

NARROWEST = 60  # columns


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
        wrapped = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
        head = f"{name:<{first}}"
        if len(name) > widest:
            lines.append(" " * indent + name)
            head = " " * first
        lines.append(" " * indent + head + wrapped[0])
        lines += [" " * (indent + first) + line for line in wrapped[1:]]
    return "\n".join(line.rstrip() for line in lines)
