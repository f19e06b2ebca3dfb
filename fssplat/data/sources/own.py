"""A data set of your own: any layout of annotations, with folds of its classes.

The label of an image has all chosen classes; where two overlap, the one with fewer pixels in this
image is on top. Images are turned by EXIF and stored as JPEG. Class ids follow the order of names.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fssplat.common.errors import InputError
from fssplat.data.masks.labels import IGNORE, Label
from fssplat.data.readers.layouts import LAYOUTS, find_layout, read_layout
from fssplat.data.readers.record import AnnotatedImage, load
from fssplat.data.sources.own_folds import folds_of
from fssplat.data.sources.record import (
    BadSampleError,
    OwnOptions,
    Record,
    Source,
    SourceOptions,
    safe_key,
)

MOST_CLASSES = 254  # that a label can tell apart
FEWEST_VAL = 6  # test images of a class, if it has twice as many: enough for 5 shots


@dataclass(frozen=True)
class OwnLabel:
    """The classes of an image, drawn into one label."""

    one: AnnotatedImage
    ids: Mapping[str, int]  # class as annotated -> class id

    @property
    def files(self) -> tuple[Path, ...]:
        return self.one.annotation.files

    def read(self) -> Label:
        try:
            masks = load(self.one).masks
        except InputError as error:
            raise BadSampleError(str(error).rstrip(".")) from error
        chosen = [(self.ids[name], mask) for name, mask in masks.items() if name in self.ids]
        if not chosen:
            return np.zeros(_size(self.one), dtype=np.uint8)
        label = np.zeros(chosen[0][1].shape, dtype=np.uint8)
        for _, mask in chosen:
            label[mask == IGNORE] = IGNORE
        for class_id, mask in sorted(chosen, key=lambda item: -int((item[1] == 1).sum())):
            label[mask == 1] = class_id
        return label


def _size(one: AnnotatedImage) -> tuple[int, int]:
    height, width, _ = load(one).pixels.shape
    return height, width


def read(name: str, folder: Path, options: SourceOptions) -> Source:
    """The data set called `name` from a folder or an annotation file. Raises InputError."""
    own = options.own or OwnOptions()
    layout = find_layout(folder, own.layout)
    records = read_layout(folder, layout, own.images)
    marked = [_classes(one) for one in records]
    names = own.choice.resolved(sorted(set().union(*marked)), str(folder))
    if not names:
        raise InputError(f"{folder}: no image has a region. Mark some objects first.")
    classes = tuple(sorted(set(names.values())))
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"{folder}: {len(classes)} classes; a label tells at most {MOST_CLASSES} apart. Choose "
            "some with --class."
        )
    ids = {value: classes.index(called) + 1 for value, called in names.items()}
    present = [{ids[one] for one in found if one in ids} for found in marked]
    counts = Counter(class_id for found in present for class_id in found)
    splits = _splits(records, present, own.val_share, options.seed)
    return Source(
        name,
        classes,
        tuple(_records(records, splits, ids, folder, layout)),
        f"{LAYOUTS[layout].description}, own data",
        "",
        folds=folds_of(own.folds, classes, counts, options.seed),
        options=json.dumps([layout, sorted(ids.items())]),
        notes=_notes(records, present, splits),
    )


def _classes(one: AnnotatedImage) -> set[str]:
    """The classes that are marked; none in an image that the build will report as unreadable."""
    try:
        return one.annotation.classes()
    except InputError:
        return set()


def _records(
    records: Sequence[AnnotatedImage],
    splits: Sequence[str],
    ids: Mapping[str, int],
    folder: Path,
    layout: str,
) -> list[Record]:
    found = []
    for one, split in zip(records, splits, strict=True):
        inside = one.image.is_relative_to(folder)
        path = one.image.relative_to(folder) if inside else Path(one.image.name)
        key, label = safe_key(path.with_suffix("").as_posix()), OwnLabel(one, ids)
        record = Record(key, split, one.image, label, layout, upright=True, content=one.embedded)
        found.append(record)
    return _distinct(found)


def _distinct(records: list[Record]) -> list[Record]:
    """The records with keys that differ: a number is added where two would be equal."""
    taken: Counter[str] = Counter()
    distinct = []
    for record in records:
        taken[record.key] += 1
        again = taken[record.key]
        distinct.append(replace(record, key=f"{record.key[:80]}_{again}") if again > 1 else record)
    return distinct


# ------------------------------------------------------------------ splits


def _splits(
    records: Sequence[AnnotatedImage], present: Sequence[set[int]], share: float, seed: int
) -> list[str]:
    """train or val for each image: as the layout has it, or by a draw.

    The draw gives `share` of the images to val, and at least FEWEST_VAL of each class, or half of
    its images if it has fewer than twice as many. Images with rare classes are drawn first.
    """
    given = {one.split for one in records}
    if {"train", "val"} <= given and "" not in given:
        return ["val" if one.split == "val" else "train" for one in records]
    counts = Counter(class_id for found in present for class_id in found)
    wanted = {c: max(round(share * n), min(FEWEST_VAL, n // 2)) for c, n in counts.items()}
    rng = np.random.default_rng(seed)
    val: set[int] = set()
    have: Counter[int] = Counter()
    for class_id in sorted(counts, key=lambda c: (counts[c], c)):
        places = [place for place, found in enumerate(present) if class_id in found]
        for place in rng.permutation(places).tolist():
            if have[class_id] >= wanted[class_id]:
                break
            if place not in val:
                val.add(place)
                have.update(present[place])
    empty = [place for place, found in enumerate(present) if not found]
    val.update(rng.permutation(empty).tolist()[: round(share * len(empty))] if empty else [])
    return ["val" if place in val else "train" for place in range(len(records))]


def _notes(
    records: Sequence[AnnotatedImage], present: Sequence[set[int]], splits: Sequence[str]
) -> tuple[str, ...]:
    notes = []
    if not all(one.split for one in records):
        notes.append(
            f"the layout names no train and val: {splits.count('train')} and "
            f"{splits.count('val')} images were drawn"
        )
    empty = sum(not found for found in present)
    if empty:
        notes.append(f"{empty} of {len(records)} images show no class")
    return tuple(notes)
