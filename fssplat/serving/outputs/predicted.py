"""A prediction on its way to a file, and as one line of JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]  # [H, W]: 0, or the class's place from 1


@dataclass(frozen=True)
class Predicted:
    """The classes found in one query."""

    name: str  # of the output files, without suffix: the query's path below its folder
    image: Path
    labels: Labels
    classes: tuple[str, ...]  # every class that was looked for, in the order of their places
    confidence: Mapping[str, float]  # mean probability over a class's pixels, 0 if it is absent

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.labels.shape[0], self.labels.shape[1]

    def present(self) -> list[tuple[int, str]]:
        """Place and name of each class that has a pixel."""
        there = set(np.unique(self.labels).tolist())
        return [(p, name) for p, name in enumerate(self.classes, start=1) if p in there]

    def runs(self) -> dict[str, dict[str, Any]]:
        """COCO's compressed RLE of each class that has a pixel: `size` and `counts`."""
        from pycocotools import mask

        found = {}
        for place, name in self.present():
            inside = np.asfortranarray(self.labels == place)
            runs = mask.encode(inside.view(np.uint8))
            found[name] = {"size": list(self.size), "counts": runs["counts"].decode()}
        return found


def drawn(runs: Mapping[str, Any], classes: tuple[str, ...], size: tuple[int, int]) -> Labels:
    """The inverse of `Predicted.runs`. Raises ValueError if they are damaged."""
    from fssplat.data.readers.shapes.coco_shapes import draw_shape

    labels = np.zeros(size, dtype=np.uint8)
    for name, shape in runs.items():
        labels[draw_shape(shape, *size)] = classes.index(name) + 1
    return labels
