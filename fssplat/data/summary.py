"""What `fssplat data info` shows: images of each class, by fold and split."""

from dataclasses import dataclass

from fssplat.data.index import SPLITS, Dataset
from fssplat.spec import FOLDS

MIN_AREA = 2048  # pixels from which the default protocol counts an image for a class


@dataclass(frozen=True)
class ClassLine:
    """One class: which fold holds it out, and its images per split, all and large enough."""

    class_id: int
    name: str
    fold: str
    images: dict[str, tuple[int, int]]


def class_lines(dataset: Dataset, contiguous: bool = False) -> list[ClassLine]:
    """One line per class, sorted by fold, then class id."""
    splits = [split for split in SPLITS if split in dataset.info.counts]
    lines = [
        ClassLine(
            class_id,
            name,
            fold_of(dataset, class_id, contiguous),
            {
                split: (
                    len(dataset.rows_of(class_id, split)),
                    len(dataset.rows_of(class_id, split, MIN_AREA)),
                )
                for split in splits
            },
        )
        for class_id, name in enumerate(dataset.info.classes, start=1)
    ]
    return sorted(lines, key=lambda line: (line.fold, line.class_id))


def fold_of(dataset: Dataset, class_id: int, contiguous: bool) -> str:
    """The fold that holds the class out; for FSS-1000 the split that it belongs to."""
    if dataset.info.labels == "binary":
        return next((s for s in SPLITS if len(dataset.rows_of(class_id, s))), "none")
    folds = FOLDS[dataset.info.name]
    if dataset.info.name == "coco-20i" and not contiguous:
        return str((class_id - 1) % folds)
    return str((class_id - 1) * folds // len(dataset.info.classes))
