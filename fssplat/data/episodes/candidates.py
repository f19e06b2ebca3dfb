"""Lines: which image may play which role for which class, before anything is drawn.

A protocol's rules (split, area, public list, what becomes of images with novel classes) end in one
table of (image, class) lines; training episodes and manifests both draw from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fssplat.common.errors import InputError
from fssplat.data.episodes.seeded_draws import Rows
from fssplat.data.folds import base_classes, novel_classes, novel_split, selection_classes
from fssplat.data.index import Dataset
from fssplat.data.public_lists import PUBLIC, PublicList, public_list
from fssplat.experiment.protocols import Protocol

LIST_AREA = 2048  # pixels of its class in an image that HSNet's own lists name
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Lines:
    """Row `rows[i]` shows class `ids[i]`: may it be a query of it, may it be a support?"""

    classes: tuple[int, ...]  # that the fold is about, with or without lines
    rows: Rows
    ids: Rows
    query: Flags
    support: Flags
    notes: tuple[str, ...] = ()  # what a reader of the numbers must know

    @cached_property
    def queries(self) -> Mapping[int, Rows]:
        """Class id -> rows, in the order of the lines; every class of `classes` is there."""
        return self._by_class(self.query)

    @cached_property
    def supports(self) -> Mapping[int, Rows]:
        return self._by_class(self.support)

    @cached_property
    def query_lines(self) -> npt.NDArray[np.int64]:
        """[lines, 2]: row and class of each query line, in order."""
        return np.stack([self.rows[self.query], self.ids[self.query]], axis=1)

    @cached_property
    def classes_of(self) -> Mapping[int, list[int]]:
        """Row -> classes that it may be a query of; rows in the order of the lines."""
        found: dict[int, list[int]] = {}
        for row, class_id in self.query_lines.tolist():
            found.setdefault(row, []).append(class_id)
        return found

    def keep(self, chosen: Flags) -> "Lines":
        """Some of the lines."""
        return replace(
            self,
            rows=self.rows[chosen],
            ids=self.ids[chosen],
            query=self.query[chosen],
            support=self.support[chosen],
        )

    def noted(self, note: str) -> "Lines":
        return replace(self, notes=(*self.notes, note)) if note else self

    def _by_class(self, role: Flags) -> dict[int, Rows]:
        return {c: self.rows[role & (self.ids == c)] for c in self.classes}


# ---------------------------------------------------------------- by the protocol's rules


def training_lines(dataset: Dataset, fold: int, protocol: Protocol) -> Lines:
    """Base classes in training images, by the protocol's list, area rule and novel policy."""
    info = dataset.info
    lines = protocol_lines(dataset, base_classes(info, fold, protocol), "train", protocol)
    if protocol.novel != "exclude-image" or info.labels == "binary":
        return lines
    novel = novel_classes(info, fold, protocol)
    spoilt = [dataset.rows_of(c, split) for c in novel for split in info.counts]
    return lines.keep(~np.isin(lines.rows, np.concatenate(spoilt)))


def novel_lines(dataset: Dataset, fold: int, protocol: Protocol, train_on: str = "") -> Lines:
    """Novel classes in test images."""
    classes = novel_classes(dataset.info, fold, protocol, train_on)
    return protocol_lines(dataset, classes, novel_split(dataset.info), protocol)


def selection_lines(dataset: Dataset, fold: int, protocol: Protocol) -> Lines:
    """Base classes in images outside the training split: what weights may be chosen by."""
    classes = selection_classes(dataset.info, fold, protocol)
    return area_lines(dataset, classes, "val", protocol.min_area, protocol.min_area_query)


def protocol_lines(
    dataset: Dataset, classes: tuple[int, ...], split: str, protocol: Protocol
) -> Lines:
    """From the public list where the protocol asks for one and it exists, else by size."""
    code, area, area_query = protocol.training_list, protocol.min_area, protocol.min_area_query
    if code == "all" or dataset.info.name not in PUBLIC[code]:
        if code == "hsnet" and dataset.info.labels == "class-index":
            area, area_query = max(area, LIST_AREA), max(area_query, LIST_AREA)
        return area_lines(dataset, classes, split, area, area_query)
    public = public_list(dataset.root, f"{code}-{'train' if split == 'train' else 'val'}")
    if code == "hsnet":
        return listed_lines(dataset, classes, public)
    allowed, note = matched_rows(dataset, public)
    lines = area_lines(dataset, classes, split, area, area_query)
    return lines.keep(np.isin(lines.rows, allowed)).noted(note)


def area_lines(
    dataset: Dataset, classes: tuple[int, ...], split: str, min_area: int, min_area_query: int
) -> Lines:
    """Lines by size: a support shows `min_area` pixels of its class, a query `min_area_query`.

    A query image must also show some class of the set at `min_area`: that is what lists it.
    """
    found = [_class_lines(dataset, c, split, min_area, min_area_query) for c in classes]
    rows, ids, query, support = (np.concatenate(column) for column in zip(*found, strict=True))
    query &= np.isin(rows, rows[support])
    order = np.lexsort((ids, rows))
    lines = Lines(classes, rows[order], ids[order], query[order], support[order])
    return lines.keep(lines.query | lines.support)


def _class_lines(
    dataset: Dataset, class_id: int, split: str, min_area: int, min_area_query: int
) -> tuple[Rows, Rows, Flags, Flags]:
    rows = dataset.rows_of(class_id, split, 1)
    query = np.isin(rows, dataset.rows_of(class_id, split, max(1, min_area_query)))
    support = np.isin(rows, dataset.rows_of(class_id, split, max(1, min_area)))
    return rows, np.full(len(rows), class_id, dtype=np.int64), query, support


def listed_lines(dataset: Dataset, classes: tuple[int, ...], public: PublicList) -> Lines:
    """The list's own (image, class) lines for these classes, in its order, whatever the split."""
    rows, note = matched_rows(dataset, public)
    chosen = (rows >= 0) & np.isin(public.classes, classes)
    both = np.ones(int(chosen.sum()), dtype=bool)
    ids = public.classes[chosen].astype(np.int64)
    return Lines(classes, rows[chosen], ids, both, both).noted(note)


def matched_rows(dataset: Dataset, public: PublicList) -> tuple[Rows, str]:
    """[lines] row of each entry, -1 where the data set lacks it, and a note on how many it lacks.

    Raises InputError where it has none of them.
    """
    places = {key: row for row, key in enumerate(dataset.keys)}
    rows = np.array([places.get(key, -1) for key in public.keys], dtype=np.int64)
    missing = int((rows < 0).sum())
    if missing == len(rows):
        raise InputError(
            f"{dataset.root}: it has no image of the public list {public.name}. Build it from the "
            f"full official data, or choose a protocol with training_list: all."
        )
    note = f"{missing:,} of {len(rows):,} lines of {public.name} are not in the data set"
    return rows, note if missing else ""


# ---------------------------------------------------------------- classes with too few images


def usable(
    dataset: Dataset, lines: Lines, shot: int, protocol: Protocol, way: int = 1
) -> tuple[Lines, tuple[int, ...]]:
    """Lines without the queries that lack supports, and the classes that then have no line left.

    An episode takes `shot` supports beside its query; where supports repeat, one will do. Raises
    InputError for such a class unless the protocol drops them.
    """
    need = 1 if protocol.supports_repeat else shot
    query = lines.query.copy()
    short = []
    for class_id, supports in lines.supports.items():
        distinct = np.unique(supports)
        others = len(distinct) - np.isin(lines.rows, distinct)
        enough = others >= need if way == 1 else np.full(len(others), len(distinct) > need)
        query &= (lines.ids != class_id) | enough
        if not (query & (lines.ids == class_id)).any():
            short.append(class_id)
    if short and protocol.short_classes == "error":
        raise _too_few(dataset, lines, short, need, shot)
    kept = replace(lines, query=query).keep(~np.isin(lines.ids, short))
    return kept.keep(kept.query | kept.support), tuple(short)


def _too_few(dataset: Dataset, lines: Lines, short: list[int], need: int, shot: int) -> InputError:
    images = {c: len(np.unique(lines.rows[lines.ids == c])) for c in short}
    names = ", ".join(f"{dataset.info.classes[c - 1]} ({n})" for c, n in images.items())
    return InputError(
        f"{dataset.info.name}: shot={shot} needs {need + 1} images per class; fewer in {names}. "
        f"Lower shot, add images and run `fssplat data build {dataset.info.name}`, or leave these "
        f"classes out with protocol.short_classes=drop."
    )
