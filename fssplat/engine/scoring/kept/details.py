"""Where the wrong pixels of an episode are, in four parts, and how large its supports' objects are.

Each wrong pixel of a way's union (predicted or true, but not both) counts once, in the first part
that fits it:

missed    the episode's IoU is below 0.1
boundary  it is at most 2 % of the image's diagonal from the edge of the true object. The distance
          is the larger one of both axes, as in Boundary IoU (Cheng et al., CVPR 2021)
base      it is on an object of a base class of the fold; so only a predicted pixel can be
other     anything else

So the parts of a way add up to its union minus its intersection.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fssplat.data.batch import IGNORE
from fssplat.data.folds import novel_classes
from fssplat.data.index import Dataset, DatasetInfo
from fssplat.engine.scoring.kept.names import PARTS
from fssplat.engine.scoring.scorer import ManifestEpisode
from fssplat.experiment.trial import Trial

Bools = npt.NDArray[np.bool_]  # [h, w]

MISSED = 0.1  # IoU below which all wrong pixels of an episode are those of a missed object
BAND = 0.02  # width of the boundary band on either side of the edge, as a share of the diagonal
SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("episode", pa.int64()),
        ("score", pa.string()),
        ("way", pa.int32()),
        ("class_id", pa.int32()),
        ("intersection", pa.int64()),
        ("union", pa.int64()),
        *((name, pa.int64()) for name in PARTS),  # wrong pixels
        ("support_pixels", pa.list_(pa.int64())),  # of the class in each support, original size
        ("support_image_pixels", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class WrongPixels:
    """The union of one way, and its wrong pixels by part."""

    intersection: int
    union: int
    missed: int = 0
    boundary: int = 0
    base: int = 0
    other: int = 0


def wrong_pixels(predicted: Bools, true: Bools, valid: Bools, on_base: Bools) -> WrongPixels:
    """The parts of one way of an episode; pixels that are not `valid` do not count.

    `on_base`: the pixel belongs to an object of a base class.
    """
    wrong = (predicted != true) & valid
    intersection = int(np.count_nonzero(predicted & true & valid))
    rows, columns = np.nonzero(wrong)
    count = len(rows)
    union = intersection + count
    if not count or intersection < MISSED * union:
        return WrongPixels(intersection, union, missed=count)
    near = near_edge(true, rows, columns)
    base = on_base[rows, columns] & ~near
    parts = int(near.sum()), int(base.sum())
    return WrongPixels(intersection, union, 0, *parts, count - sum(parts))


def near_edge(
    true: Bools, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """[pixels] whether both object and background are in the square of the band around a pixel."""
    height, width = true.shape
    reach = max(1, round(BAND * math.hypot(height, width)))
    sums = np.zeros((height + 1, width + 1), dtype=np.int32)  # of all pixels above and to the left
    np.cumsum(true, axis=0, dtype=np.int32, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    top, bottom = np.maximum(rows - reach, 0), np.minimum(rows + reach + 1, height)
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach + 1, width)
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return np.asarray((inside > 0) & (inside < (bottom - top) * (right - left)))


def base_objects(info: DatasetInfo, trial: Trial) -> tuple[int, ...]:
    """Ids of the classes with labels in the test images that the training has seen as objects.

    Empty for data sets whose labels have one class per image, and for one of your own that
    another data set trains for, since its classes are then taken as unknown to the training.
    """
    if info.labels == "binary":
        return ()
    if info.folds:
        return info.folds[trial.fold].base if trial.train_on.name == info.name else ()
    novel = novel_classes(info, trial.fold, trial.protocol, trial.train_on.name)
    return tuple(c for c in range(1, len(info.classes) + 1) if c not in novel)


def detail_rows(
    episode: ManifestEpisode,
    prediction: npt.NDArray[np.uint8],
    label: npt.NDArray[np.uint8],
    dataset: Dataset,
    score: str,
    ignore_border: bool,
) -> list[dict[str, Any]]:
    """One row per way. `label` [h, w]: the ways, then base classes, 0 background, 255 ignored."""
    drawn = episode.drawn
    prediction = np.ascontiguousarray(prediction)  # in the label's order: half the time
    valid = label != IGNORE
    on_base = (label > len(drawn.classes)) & valid
    if not ignore_border:
        valid = np.ones_like(valid)
    shot = len(drawn.supports) // len(drawn.classes)
    rows = []
    for way, class_id in enumerate(drawn.classes, start=1):
        supports = drawn.supports[(way - 1) * shot : way * shot]
        rows.append(
            {
                "seed": episode.seed,
                "episode": episode.index,
                "score": score,
                "way": way,
                "class_id": class_id,
                **vars(wrong_pixels(prediction == way, label == way, valid, on_base)),
                "support_pixels": [dataset.area(row, class_id) for row in supports],
                "support_image_pixels": [int(np.prod(dataset.sizes[row])) for row in supports],
            }
        )
    return rows
