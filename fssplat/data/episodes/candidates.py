"""Candidates: which image may be a query or a support of which class.

A protocol's rules (split, area, public list, images with novel classes) are applied once and give
one table of (image, class) pairs. Training episodes and manifests are drawn from this table.
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
from fssplat.data.places import rebuild
from fssplat.data.public_lists import PUBLIC, PublicList, public_list
from fssplat.experiment.protocols import Protocol

LIST_AREA = 2048  # pixels of its class in every image of HSNet's own lists
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Candidate i: the image in row `rows[i]` shows class `ids[i]`."""

    classes: tuple[int, ...]  # all classes of the fold, with or without candidates
    rows: Rows  # [candidates]
    ids: Rows  # [candidates], class ids
    query: Flags  # [candidates], whether it may be a query of its class
    support: Flags  # [candidates], whether it may be a support of its class
    notes: tuple[str, ...] = ()  # shown beside the results

    @cached_property
    def queries(self) -> Mapping[int, Rows]:
        """Class id -> rows in the order of the candidates, for every class of `classes`."""
        return self._by_class(self.query)

    @cached_property
    def supports(self) -> Mapping[int, Rows]:
        return self._by_class(self.support)

    @cached_property
    def query_pairs(self) -> npt.NDArray[np.int64]:
        """[queries, 2]: row and class id of each candidate query, in order."""
        return np.stack([self.rows[self.query], self.ids[self.query]], axis=1)

    @cached_property
    def classes_of(self) -> Mapping[int, list[int]]:
        """Row -> class ids that it may be a query of; rows in the order of the candidates."""
        found: dict[int, list[int]] = {}
        for row, class_id in self.query_pairs.tolist():
            found.setdefault(row, []).append(class_id)
        return found

    def subset(self, chosen: Flags) -> "Candidates":
        """The candidates whose flag is set."""
        return replace(
            self,
            rows=self.rows[chosen],
            ids=self.ids[chosen],
            query=self.query[chosen],
            support=self.support[chosen],
        )

    def with_note(self, note: str) -> "Candidates":
        return replace(self, notes=(*self.notes, note)) if note else self

    def _by_class(self, role: Flags) -> dict[int, Rows]:
        return {c: self.rows[role & (self.ids == c)] for c in self.classes}


# ---------------------------------------------------------------- the protocol's rules


def training_candidates(dataset: Dataset, fold: int, protocol: Protocol) -> Candidates:
    """Base classes in training images, by the protocol's list, area rule and novel policy."""
    info = dataset.info
    candidates = candidates_of_protocol(
        dataset, base_classes(info, fold, protocol), "train", protocol
    )
    if protocol.novel != "exclude-image" or info.labels == "binary":
        return candidates
    novel = novel_classes(info, fold, protocol)
    with_novel = [dataset.rows_of(c, split) for c in novel for split in info.counts]
    return candidates.subset(~np.isin(candidates.rows, np.concatenate(with_novel)))


def novel_candidates(
    dataset: Dataset, fold: int, protocol: Protocol, train_on: str = ""
) -> Candidates:
    """Novel classes in test images."""
    classes = novel_classes(dataset.info, fold, protocol, train_on)
    return candidates_of_protocol(dataset, classes, novel_split(dataset.info), protocol)


def selection_candidates(dataset: Dataset, fold: int, protocol: Protocol) -> Candidates:
    """Base classes in images outside the training split; weights may be chosen by these."""
    classes = selection_classes(dataset.info, fold, protocol)
    return candidates_by_area(dataset, classes, "val", protocol.min_area, protocol.min_area_query)


def candidates_of_protocol(
    dataset: Dataset, classes: tuple[int, ...], split: str, protocol: Protocol
) -> Candidates:
    """From the public list if the protocol asks for one and it exists, else by area."""
    code, area, area_query = protocol.training_list, protocol.min_area, protocol.min_area_query
    if code == "all" or dataset.info.name not in PUBLIC[code]:
        if code == "hsnet" and dataset.info.labels == "class-index":
            area, area_query = max(area, LIST_AREA), max(area_query, LIST_AREA)
        return candidates_by_area(dataset, classes, split, area, area_query)
    public = public_list(dataset.root, f"{code}-{'train' if split == 'train' else 'val'}")
    if code == "hsnet":
        return candidates_of_list(dataset, classes, public)
    allowed, note = rows_of_list(dataset, public)
    candidates = candidates_by_area(dataset, classes, split, area, area_query)
    return candidates.subset(np.isin(candidates.rows, allowed)).with_note(note)


def candidates_by_area(
    dataset: Dataset, classes: tuple[int, ...], split: str, min_area: int, min_area_query: int
) -> Candidates:
    """A support shows at least `min_area` pixels of its class, a query `min_area_query`.

    A query image must also show some class of `classes` with `min_area` pixels, because the public
    code lists only such images.
    """
    if not classes:
        raise InputError(
            f"{dataset.info.name}: the fold has no base class, so nothing can be trained. Use a "
            "method without training, such as prior, or mark a second class."
        )
    found = [_class_candidates(dataset, c, split, min_area, min_area_query) for c in classes]
    rows, ids, query, support = (np.concatenate(column) for column in zip(*found, strict=True))
    query &= np.isin(rows, rows[support])
    order = np.lexsort((ids, rows))
    candidates = Candidates(classes, rows[order], ids[order], query[order], support[order])
    return candidates.subset(candidates.query | candidates.support)


def _class_candidates(
    dataset: Dataset, class_id: int, split: str, min_area: int, min_area_query: int
) -> tuple[Rows, Rows, Flags, Flags]:
    rows = dataset.rows_of(class_id, split, 1)
    query = np.isin(rows, dataset.rows_of(class_id, split, max(1, min_area_query)))
    support = np.isin(rows, dataset.rows_of(class_id, split, max(1, min_area)))
    return rows, np.full(len(rows), class_id, dtype=np.int64), query, support


def candidates_of_list(
    dataset: Dataset, classes: tuple[int, ...], public: PublicList
) -> Candidates:
    """The list's own (image, class) pairs for these classes, in its order, from any split."""
    rows, note = rows_of_list(dataset, public)
    chosen = (rows >= 0) & np.isin(public.classes, classes)
    both = np.ones(int(chosen.sum()), dtype=bool)
    ids = public.classes[chosen].astype(np.int64)
    return Candidates(classes, rows[chosen], ids, both, both).with_note(note)


def rows_of_list(dataset: Dataset, public: PublicList) -> tuple[Rows, str]:
    """Row of each entry of a list, and a note if entries are missing from the data set.

    [entries]; -1 for a missing entry. Raises InputError if all are missing.
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


def with_enough_supports(
    dataset: Dataset, candidates: Candidates, shot: int, protocol: Protocol, way: int = 1
) -> tuple[Candidates, tuple[int, ...]]:
    """Drop queries whose class has too few supports, and classes without a remaining query.

    An episode needs `shot` supports beside its query, or one if supports may repeat. Returns the
    remaining candidates and the dropped class ids. Raises InputError instead of dropping a class
    unless the protocol says `short_classes: drop`.
    """
    need = 1 if protocol.supports_repeat else shot
    query = candidates.query.copy()
    short = []
    for class_id, supports in candidates.supports.items():
        distinct = np.unique(supports)
        others = len(distinct) - np.isin(candidates.rows, distinct)
        enough = others >= need if way == 1 else np.full(len(others), len(distinct) > need)
        query &= (candidates.ids != class_id) | enough
        if not (query & (candidates.ids == class_id)).any():
            short.append(class_id)
    if short and protocol.short_classes == "error":
        raise _too_few(dataset, candidates, short, need, shot)
    kept = replace(candidates, query=query).subset(~np.isin(candidates.ids, short))
    return kept.subset(kept.query | kept.support), tuple(short)


def _too_few(
    dataset: Dataset, candidates: Candidates, short: list[int], need: int, shot: int
) -> InputError:
    images = {c: len(np.unique(candidates.rows[candidates.ids == c])) for c in short}
    names = ", ".join(f"{dataset.info.classes[c - 1]} ({n})" for c, n in images.items())
    return InputError(
        f"{dataset.info.name}: shot={shot} needs {need + 1} images per class; fewer in {names}. "
        "Lower shot, leave these classes out with protocol.short_classes=drop, or add images and "
        f"build the data set again. {rebuild(dataset.root, dataset.info.name)}"
    )
