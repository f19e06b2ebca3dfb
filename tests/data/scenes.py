"""VOC layouts with two squares an image, one class left and one right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fssplat.data.build.convert import build
from fssplat.data.index import Dataset
from fssplat.data.labels import Label
from fssplat.experiment.protocols import Protocol, resolve_protocol

from .layouts import SIZE, save_pair

SIDE = 10  # of a square: 100 pixels


def two_squares(left: int, right: int) -> Label:
    """SIZE with a square of each class and a column of 255 beside the left one; 0: no square."""
    label = np.zeros(SIZE, dtype=np.uint8)
    label[2 : 2 + SIDE, 2 : 2 + SIDE] = left
    label[2 : 2 + SIDE, 2 + SIDE] = 255
    label[2 : 2 + SIDE, 20 : 20 + SIDE] = right
    return label


def scene_voc(folder: Path, plan: Mapping[str, Sequence[tuple[int, int]]]) -> Dataset:
    """Split -> (left class, right class) of each image; images are t000.., v000.."""
    voc, sbd = folder / "VOC2012", folder / "SBD" / "dataset"
    for split, pairs in plan.items():
        names = [f"{split[0]}{number:03d}" for number in range(len(pairs))]
        for number, (name, pair) in enumerate(zip(names, pairs, strict=True)):
            save_pair(voc, name, number + 100 * (split == "val"), two_squares(*pair))
        (voc / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
    for part in ("img", "cls"):
        (sbd / part).mkdir(parents=True)
    for split in ("train", "val"):
        (sbd / f"{split}.txt").write_text("")
    build("pascal-5i", folder, folder / "built")
    return Dataset.open(folder / "built")


def rules(name: str = "fssplat", **changes: Any) -> Protocol:
    """A protocol whose area rule lets the small squares pass."""
    return resolve_protocol({"name": name, "min_area": 50, "min_area_query": 50, **changes})
