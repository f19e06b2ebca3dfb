"""The base images of a fold as `prepare` reads them: in the order of the shards, no novel label."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fssplat.data.batch import IGNORE
from fssplat.data.episodes.candidates import training_candidates
from fssplat.data.folds import base_classes, ignored_classes
from fssplat.data.index import Dataset
from fssplat.data.transforms import Mode, fit, normalise
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Trial


class TrainingImages:
    """Some rows of the training split, at their own size."""

    def __init__(self, dataset: Dataset, rows: npt.NDArray[np.int64], key: str) -> None:
        self.dataset, self.rows, self.key = dataset, rows, key

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W], RGB."""
        pixels = np.ascontiguousarray(self.dataset.image(int(self.rows[index])))
        return torch.from_numpy(pixels).permute(2, 0, 1)


class BaseImages(TrainingImages):
    """Images that the protocol trains on, with the labels of base classes only.

    Rows come in the order of the shards, so a pass reads them from front to back.
    """

    def __init__(self, dataset: Dataset, trial: Trial) -> None:
        rows = np.unique(training_candidates(dataset, trial.fold, trial.protocol).rows)
        self.trial, self.size = trial, trial.training.size
        squashed = trial.training.augment.resize == "squash"
        self.mode: Mode = "squash" if squashed else "pad"  # a whole image, also where crops train
        self.classes = base_classes(dataset.info, trial.fold, trial.protocol)
        self.ignored = ignored_classes(dataset.info, trial.fold, trial.protocol)
        names = (list(self.classes), list(self.ignored))
        fitted = ["squash"] if squashed else []
        parts = (dataset.info.fingerprint, *names, rows.tolist(), self.size, *fitted)
        super().__init__(dataset, rows, digest("base-images", *parts))

    def label(self, index: int) -> Tensor:
        """int64 [H, W]: class ids of the data set; 0 background, 255 ignored, no novel class.

        Novel pixels are background, or ignored if the protocol sets so.
        """
        return with_class_ids(*self._target(int(self.rows[index])))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once: float32 [1, 3, S, S] and int64 [1, S, S].

        Both are stretched if the training stretches its images, otherwise padded, labels with 255.
        """
        for row in self.rows.tolist():
            target, present = self._target(row)
            image, label, _ = fit(self.dataset.image(row), target, self.size, self.mode)
            pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
            yield normalise(pixels).unsqueeze(0), with_class_ids(label, present).unsqueeze(0)

    def remaining(self) -> TrainingImages:
        """Images of the training split that show no base class, for use without labels.

        If the protocol excludes images with novel classes, these show none either.
        """
        dataset, rules = self.dataset, self.trial.protocol
        kept = dataset.splits == "train"
        shown = self.classes
        if rules.novel == "exclude-image":
            shown = tuple(range(1, len(dataset.info.classes) + 1))
        for class_id in shown:
            kept[dataset.rows_of(class_id, "train", 1)] = False
        return TrainingImages(dataset, np.flatnonzero(kept), f"{self.key}-remaining")

    def _target(self, row: int) -> tuple[npt.NDArray[np.uint8], tuple[int, ...]]:
        """[H, W] with 1..n for the base classes in the image, and those classes."""
        present = tuple(c for c in self.dataset.classes_of(row).tolist() if c in self.classes)
        return self.dataset.target(row, present, self.ignored), present


def with_class_ids(target: npt.NDArray[np.uint8], classes: tuple[int, ...]) -> Tensor:
    """[H, W] with 1..n for the classes in their order -> int64 class ids; 0 and 255 stay."""
    ids = np.zeros(256, dtype=np.int64)
    ids[1 : len(classes) + 1] = classes
    ids[IGNORE] = IGNORE
    return torch.from_numpy(ids[target])
