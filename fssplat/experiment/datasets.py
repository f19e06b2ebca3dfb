"""The built-in data sets, and what an experiment must know of a data set of one's own.

A data set is known if it is built in, if the experiment's `datasets` names it, or if it was built
at its default place. The classes, folds and images of one's own are read from its dataset.json.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError, first_line
from fssplat.common.file_kinds import regular
from fssplat.common.passwords import hidden
from fssplat.common.printing import command_line
from fssplat.common.similar import known

INFO_FILE = "dataset.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
EVERY = "default"  # key of a protocol axis for all other data sets; no name of a data set


@dataclass(frozen=True)
class KnownDataset:
    """What the planning of trials needs to know of a data set."""

    folds: int
    images: int  # for training, about: of the cost of a plan before the data set is read
    recipe: str = ""  # the built-in data set whose recipes the methods use; "": its own


@dataclass(frozen=True)
class Fold:
    """The classes of one fold of a data set of your own, as ids; other classes are not used."""

    novel: tuple[int, ...]
    base: tuple[int, ...]


BUILT_IN: dict[str, KnownDataset] = {
    "pascal-5i": KnownDataset(folds=4, images=10_000),
    "coco-20i": KnownDataset(folds=4, images=80_000),
    "fss-1000": KnownDataset(folds=1, images=5_200),
    "synthetic": KnownDataset(folds=4, images=1_000),
}


def default_root(name: str) -> str:
    """The folder of a data set unless the experiment gives another one."""
    return f"{os.environ.get('FSSPLAT_DATA', 'data')}/{name}"


def valid_name(name: str) -> bool:
    """Whether a data set can have this name: it becomes a folder and a key of YAML."""
    return bool(NAME.fullmatch(name)) and name != EVERY


def known_dataset(name: str, root: str, where: str, declared: Iterable[str] = ()) -> KnownDataset:
    """The facts about a data set; `declared` are the names that the experiment gives a root.

    Raises InputError if it is unknown, or if one of your own is not built.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    place = (root or default_root(name)).rstrip("/")
    names = list(dict.fromkeys((*BUILT_IN, *declared)))
    if name not in names and not (valid_name(name) and (Path(place) / INFO_FILE).is_file()):
        raise InputError(
            f"{where}: dataset {name!r} is unknown. {known(name, names)} To build one of your own: "
            "`fssplat data build NAME --source FOLDER`."
        )
    if "://" in place:
        return _read_remote(name, place)
    try:
        changed = (Path(place) / INFO_FILE).stat().st_mtime_ns
    except OSError:
        raise _not_built(name, place) from None
    return _read_local(name, place, changed)


def recipe_for(side: int, images: int) -> str:
    """The built-in data set whose recipes fit: by the typical longer side and the training images.

    The recipes of synthetic have inputs of about 129 pixels, those of FSS-1000 of 225, those of
    PASCAL of 473, those of COCO too, for fewer epochs of many more images.
    """
    if side <= 192:
        return "synthetic"
    if side <= 320:
        return "fss-1000"
    return "pascal-5i" if images <= 20_000 else "coco-20i"


@lru_cache(maxsize=64)
def _read_local(name: str, place: str, changed: int) -> KnownDataset:
    try:
        data = regular(Path(place) / INFO_FILE).read_bytes()
    except OSError as error:
        raise InputError(
            f"{place}/{INFO_FILE}: cannot be read ({error.strerror}). Check the folder and its "
            "permissions."
        ) from error
    return _facts(data, name, place)


@lru_cache(maxsize=16)
def _read_remote(name: str, place: str) -> KnownDataset:
    from fssplat.common.remote_files import filesystem

    try:
        files, path = filesystem(place)
        data = files.cat_file(f"{path}/{INFO_FILE}")
    except FileNotFoundError:
        raise _not_built(name, place) from None
    except Exception as error:  # each protocol raises its own errors
        raise InputError(
            f"{hidden(place)}: cannot be read ({hidden(first_line(error))}). Check the address and "
            "its credentials."
        ) from error
    return _facts(data, name, place)


def _facts(data: bytes, name: str, place: str) -> KnownDataset:
    try:
        content: Any = json.loads(data)
        folds, images = len(content.get("folds", [])), int(content["counts"].get("train", 0))
        recipe = str(content.get("recipe", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{place}/{INFO_FILE}: damaged. Build the data set again.") from None
    if not folds or recipe not in BUILT_IN:
        build = command_line(["fssplat", "data", "build", name])
        raise InputError(
            f"{place}: it has no folds, so it is no data set of your own. Set datasets.{name}.root "
            f"to the folder that `{build}` wrote."
        )
    return KnownDataset(folds, images, recipe)


def _not_built(name: str, place: str) -> InputError:
    words = ["fssplat", "data", "build", name, "--source", "FOLDER", "--out", place]
    return InputError(
        f"{place}: no data set there ({INFO_FILE} is missing). Run `{command_line(words)}`."
    )
