"""The file of a SQLite address."""

import re
from pathlib import Path


def sqlite_file(url: str) -> Path | None:
    """The file in an address such as sqlite:///studies.db, as it is written but with `~` replaced.

    Returns None for the address of another database.
    """
    found = re.fullmatch(r"sqlite(?:\+\w+)?:(?:///?)?([^?]*)(?:\?.*)?", url)
    return Path(found[1]).expanduser() if found else None
