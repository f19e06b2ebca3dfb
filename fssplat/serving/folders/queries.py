"""The pictures to predict, and the names of their outputs."""

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fssplat.common.errors import InputError
from fssplat.data.readers.pictures import SUFFIXES, is_picture, pictures_in

SPECIAL = "*?["


class Query(NamedTuple):
    """A picture to predict."""

    path: Path
    file: str  # its path below the folder that was named
    name: str  # of its outputs: `file` without suffix, with it if two would be equal

    @property
    def stamp(self) -> list[int]:
        """Size and time of the last change. If one changes, the picture is predicted again."""
        facts = self.path.stat()
        return [facts.st_size, facts.st_mtime_ns]


def find_queries(places: Sequence[str]) -> list[Query]:
    """The pictures at each place: a file, a folder with all below it, or a pattern like a/*.jpg.

    Raises InputError if a place has no picture.
    """
    found: dict[Path, str] = {}
    for place in places:
        path = Path(place)
        if path.is_dir():
            here = {one: one.relative_to(path).as_posix() for one in pictures_in(path, deep=True)}
        elif path.is_file():
            here = {path: path.name}
        else:
            root = _root(place)
            matched = (Path(one) for one in sorted(glob.glob(place, recursive=True)))
            here = {
                one: one.relative_to(root).as_posix() for one in matched
                if one.is_file() and is_picture(one)
            }  # fmt: skip
        if not here:
            kinds = ", ".join(SUFFIXES)
            raise InputError(f"--query {place}: no picture there ({kinds}). Check the name.")
        for one, file in here.items():
            found.setdefault(one, file)
    return _with_names(found)


def _with_names(found: dict[Path, str]) -> list[Query]:
    plain = Counter(_without_suffix(file) for file in found.values())
    whole = Counter(found.values())
    twice = [file for file, count in whole.items() if count > 1]
    if twice:
        both = [str(path) for path, file in found.items() if file == twice[0]]
        raise InputError(
            f"--query: {' and '.join(both[:2])} would have the same output. Give the folder above "
            "them, or predict into two folders."
        )
    return [
        Query(path, file, name if plain[name := _without_suffix(file)] == 1 else file)
        for path, file in found.items()
    ]


def _without_suffix(file: str) -> str:
    return Path(file).with_suffix("").as_posix()


def _root(pattern: str) -> Path:
    """The folder above the first part of a pattern that has a special character."""
    parts = Path(pattern).parts
    plain = next((i for i, part in enumerate(parts) if set(SPECIAL) & set(part)), len(parts) - 1)
    return Path(*parts[:plain])
