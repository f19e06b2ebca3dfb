"""Intersections and unions, accumulated per class, and the scores computed from them.

Every public scoring code sums pixels over the episodes of a class before it divides. They differ
in three choices, which are settings of the protocol: whether a class without episodes is skipped or
counts as 0 (`absent_class`), whether label 255 is removed or is background (`ignore_border`), and
the scored size. Sums are int64 and ratios float64, so the order of episodes cannot change a score.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fssplat.data.batch import IGNORE

Metrics = dict[str, float]


def overlap(prediction: Tensor, label: Tensor, classes: int, ignore_border: bool = True) -> Tensor:
    """[..., h, w] class indices, 255 in the label -> int64 [..., classes + 1, 2].

    Last axis: intersection and union. Rows 0 to classes - 1 are background and the ways; the last
    row takes all ways as one foreground, as FB-IoU does (equal to row 1 for one way).
    No value leaves the device.
    """
    valid = label != IGNORE
    if not ignore_border:
        label, valid = torch.where(valid, label, 0), torch.ones_like(valid)
    rows = []
    for index in range(classes):
        rows.append(_pixels(prediction == index, label == index, valid))
    rows.append(_pixels(prediction > 0, label > 0, valid) if classes > 2 else rows[1])
    return torch.stack(rows, dim=-2)


def _pixels(predicted: Tensor, true: Tensor, valid: Tensor) -> Tensor:
    intersection = (predicted & true & valid).sum(dim=(-2, -1))
    union = ((predicted | true) & valid).sum(dim=(-2, -1))
    return torch.stack([intersection, union], dim=-1)


@dataclass
class Scores:
    """Sums over episodes: class id -> [intersection, union], and the same for both grounds."""

    classes: tuple[int, ...]  # every class that the mean is over
    sums: dict[int, np.ndarray] = field(default_factory=dict)
    grounds: np.ndarray = field(default_factory=lambda: np.zeros((2, 2), dtype=np.int64))

    def add(self, ways: Iterable[int], counts: np.ndarray) -> None:
        """One episode: the class id of each way, and its `overlap` as int64 [classes + 1, 2]."""
        for row, class_id in enumerate(ways, start=1):
            self.add_class(class_id, counts[row])
        self.add_grounds(counts[[0, -1]])

    def add_class(self, class_id: int, counts: np.ndarray) -> None:
        """One way of an episode: [intersection, union]."""
        assert class_id in self.classes, f"class {class_id} is not scored here"
        self.sums[class_id] = self.sums.get(class_id, 0) + counts.astype(np.int64)

    def add_grounds(self, counts: np.ndarray) -> None:
        """[background, foreground] x [intersection, union] of one episode."""
        self.grounds = self.grounds + counts.astype(np.int64)

    def iou(self) -> dict[int, float]:
        """IoU of every class that had episodes; 0 for a class neither seen nor predicted."""
        return {c: ratio(self.sums[c]) for c in self.classes if c in self.sums}

    def miou(self, absent: Literal["skip", "zero"] = "skip") -> float:
        """Mean over classes; one without episodes is left out, or counts as 0."""
        per_class = self.iou()
        count = len(self.classes) if absent == "zero" else len(per_class)
        return sum(per_class.values()) / count if count else float("nan")

    def fb_iou(self) -> float:
        """Mean of the background's and the foreground's IoU over all episodes together."""
        return (ratio(self.grounds[0]) + ratio(self.grounds[1])) / 2


def ratio(counts: np.ndarray) -> float:
    """Intersection over union of one row; an empty union gives 0."""
    return float(counts[0]) / max(float(counts[1]), 1.0)


def over_seeds(
    seeds: Mapping[int, Scores], names: Mapping[int, str], absent: Literal["skip", "zero"]
) -> Metrics:
    """miou, fb_iou, their standard deviations over episode seeds (n - 1), and iou/<class>.

    A class's IoU is the mean over the episode seeds that drew it; a seed without any episode
    is left out of the mean.
    """
    scored = [scores for scores in seeds.values() if scores.sums]
    miou = [scores.miou(absent) for scores in scored]
    fb_iou = [scores.fb_iou() for scores in scored]
    metrics = {
        "miou": mean(miou),
        "miou_std": deviation(miou),
        "fb_iou": mean(fb_iou),
        "fb_iou_std": deviation(fb_iou),
    }
    for class_id, name in names.items():
        drawn = [scores.iou()[class_id] for scores in scored if class_id in scores.sums]
        if drawn:
            metrics[f"iou/{name}"] = mean(drawn)
    return metrics


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def deviation(values: list[float]) -> float:
    """Standard deviation of a sample; 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
