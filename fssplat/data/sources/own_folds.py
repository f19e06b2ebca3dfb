"""Folds of a data set of your own: by number, or from a file.

folds: [[cat, dog], [car]]     the novel classes of each fold; all others are base classes
base: [cat, dog]               one fold with these lists; other classes are not used
novel: [car]
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fssplat.common.errors import InputError
from fssplat.common.similar import known
from fssplat.data.readers.text_files import annotation_text
from fssplat.experiment.datasets import Fold


def folds_of(
    given: str, classes: Sequence[str], counts: Mapping[int, int], seed: int
) -> tuple[Fold, ...]:
    """`given` is a number of folds or the path of a file; `counts` are images by class id.

    Raises InputError for a wrong number, or a file that names no classes or unknown ones.
    """
    if given.isdecimal():
        return dealt(int(given), classes, counts, seed)
    return read_folds(Path(given), classes)


def dealt(
    number: int, classes: Sequence[str], counts: Mapping[int, int], seed: int
) -> tuple[Fold, ...]:
    """Deal the classes out, most images first, forwards and backwards in turn.

    So each fold has as many classes as the others or one more, and about as many images. There are
    no more folds than classes; a single class is novel in the only fold, which has no base class.
    """
    if number < 1:
        raise InputError("--folds 0: give a number from 1 on, or a file with lists of classes.")
    number = min(number, len(classes))
    order = np.random.default_rng(seed).permutation(len(classes)) + 1
    ranked = sorted(order.tolist(), key=lambda class_id: -counts.get(class_id, 0))
    novel: list[list[int]] = [[] for _ in range(number)]
    for place, class_id in enumerate(ranked):
        turn, column = divmod(place, number)
        novel[column if turn % 2 == 0 else number - 1 - column].append(class_id)
    return tuple(_fold(of_fold, len(classes)) for of_fold in novel)


def read_folds(path: Path, classes: Sequence[str]) -> tuple[Fold, ...]:
    """The folds of a file. Raises InputError."""
    import yaml

    try:
        content = yaml.safe_load(annotation_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({str(error).splitlines()[0]}).") from error
    if isinstance(content, dict) and set(content) == {"folds"} and content["folds"]:
        lists = content["folds"]
        lists = list(lists.values()) if isinstance(lists, dict) else lists
        if isinstance(lists, list):
            return tuple(_fold(_ids(one, classes, path), len(classes)) for one in lists)
    if isinstance(content, dict) and set(content) == {"base", "novel"}:
        base, novel = (tuple(sorted(_ids(content[k], classes, path))) for k in ("base", "novel"))
        both = set(base) & set(novel)
        if both:
            raise InputError(f"{path}: {classes[min(both) - 1]} is base and novel. Choose one.")
        return (Fold(novel, base),)
    raise InputError(
        f"{path}: needed is `folds: [[cat, dog], [car]]`, the novel classes of each fold, or two "
        "lists `base:` and `novel:`."
    )


def _ids(names: Any, classes: Sequence[str], path: Path) -> list[int]:
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: a fold is a list of classes, as in [cat, dog].")
    for name in names:
        if str(name) not in classes:
            raise InputError(f"{path}: class {name!a} is unknown. {known(name, classes)}")
    return sorted({classes.index(str(name)) + 1 for name in names})


def _fold(novel: Sequence[int], classes: int) -> Fold:
    base = tuple(c for c in range(1, classes + 1) if c not in novel)
    return Fold(tuple(sorted(novel)), base)
