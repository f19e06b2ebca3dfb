"""Images of each class by fold and split, for `fssplat data info`."""

from dataclasses import dataclass
from typing import Literal

from fssplat.data.folds import classes_of_split, fold_of
from fssplat.data.index import SPLITS, Dataset
from fssplat.experiment.protocols import PROTOCOLS

DEFAULT = PROTOCOLS["fssplat"]


@dataclass(frozen=True)
class ClassSummary:
    """One class: its fold or split, and its images by split."""

    class_id: int
    name: str
    fold: str
    images: dict[
        str, tuple[int, int]
    ]  # split -> (all images, images with the default protocol's min_area)


def class_summaries(
    dataset: Dataset, coco_folds: Literal["interleaved", "contiguous"] = "interleaved"
) -> list[ClassSummary]:
    """One summary per class, sorted by fold, then class id."""
    info = dataset.info
    if info.labels == "binary":
        fold = {c: split for split in info.class_counts for c in classes_of_split(info, split)}
    else:
        rules = DEFAULT.model_copy(update={"coco_folds": coco_folds})
        fold = {c: str(fold_of(info, c, rules)) for c in range(1, len(info.classes) + 1)}
    summaries = [
        ClassSummary(class_id, name, fold[class_id], _images(dataset, class_id))
        for class_id, name in enumerate(info.classes, start=1)
    ]
    if info.labels == "binary":
        return summaries  # sorted by split already
    return sorted(summaries, key=lambda one: (one.fold, one.class_id))


def _images(dataset: Dataset, class_id: int) -> dict[str, tuple[int, int]]:
    return {
        split: (
            len(dataset.rows_of(class_id, split)),
            len(dataset.rows_of(class_id, split, DEFAULT.min_area)),
        )
        for split in SPLITS
        if split in dataset.info.counts
    }
