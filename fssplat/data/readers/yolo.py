"""YOLO segmentation: images/ and labels/*.txt, a line for a polygon: class, then x y as shares.

data.yaml has the names of the classes; without it they are called 0, 1, 2, ...
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.data.readers.pictures import is_picture
from fssplat.data.readers.record import AnnotatedImage, Part, Shapes, class_name, require_any
from fssplat.data.readers.shapes.polygons import Polygon
from fssplat.data.readers.text_files import annotation_text

NAMES = ("data.yaml", "dataset.yaml", "data.yml")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read(root: Path, images: Sequence[Path] = ()) -> list[AnnotatedImage]:
    """The labelled pictures of a folder, or of the folder of a data.yaml. Raises InputError."""
    root = root.parent if root.is_file() else root
    names = class_names(root)
    found = [read_file(picture, text, names, root) for picture, text in pairs(root, images)]
    return require_any(found, root, "picture with a labels/*.txt")


def pairs(root: Path, images: Sequence[Path] = ()) -> Iterator[tuple[Path, Path]]:
    """Each label file with its picture, which need not exist.

    labels/train/a.txt belongs to images/train/a.jpg, train/labels/a.txt to train/images/a.jpg.
    """
    for text in label_files(root):
        parts = list(text.relative_to(root).parts)
        place = parts.index("labels")
        folder = root.joinpath(*parts[:place], "images", *parts[place + 1 : -1])
        places = [*(folder.glob(f"{_literal(text.stem)}.*") if folder.is_dir() else [])]
        for other in images:
            places += other.rglob(f"{_literal(text.stem)}.*")
        found = sorted(one for one in places if is_picture(one))
        yield (found[0] if found else folder / f"{text.stem}.jpg"), text


def label_files(root: Path) -> list[Path]:
    """The label files below a folder, in the order of their names."""
    files = {*root.glob("labels/**/*.txt"), *root.glob("*/labels/*.txt")}
    return sorted(path for path in files if path.stem != "classes")


def class_names(root: Path) -> dict[str, str]:
    """Class number -> name, from data.yaml; empty without it. Raises InputError."""
    import yaml

    path = next((root / name for name in NAMES if (root / name).is_file()), None)
    if path is None:
        return {}
    try:
        content = yaml.safe_load(annotation_text(path))
        names = content["names"]
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        found = {str(int(number)): class_name(name, "an entry") for number, name in pairs}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: it has no names of classes, as in `names: [cat, dog]`. Add them."
        ) from error
    twice = [name for name, count in Counter(found.values()).items() if count > 1]
    if twice:
        raise InputError(f"{path}: two classes are called {twice[0]!a}. Rename one.")
    return found


def read_file(picture: Path, text: Path, names: Mapping[str, str], root: Path) -> AnnotatedImage:
    """One picture. Raises InputError for a line that is no polygon of a known class."""
    parts = []
    for number, line in enumerate(annotation_text(text).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{text}: line {number}"
        if names and words[0] not in names:
            raise InputError(f"{where}: class {words[0][:40]!a} is not in data.yaml. Add it there.")
        try:
            corners = tuple(map(float, words[1:]))
        except ValueError as error:
            raise InputError(f"{where}: not a class and numbers. Export it again.") from error
        if len(corners) == 4:
            raise InputError(f"{where}: a box, no polygon. Export segmentation labels.")
        if not re.fullmatch(r"\d+", words[0]):
            raise InputError(f"{where}: {words[0][:40]!a} is no class number. Export it again.")
        parts.append(Part(names.get(words[0], words[0]), Polygon(corners, relative=True)))
    split = next((SPLITS[p] for p in text.relative_to(root).parts if p in SPLITS), "")
    return AnnotatedImage(picture, Shapes(str(text), (text,), None, tuple(parts)), split)


def _literal(stem: str) -> str:
    """A name in which glob's special characters stand for themselves."""
    return re.sub(r"([*?[])", r"[\1]", stem)
