"""A data set in memory, and episodes over it."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from fssplat.data.batch import IGNORE
from fssplat.data.episodes.training import Episode


class MemoryDataset:
    """Images in memory behind the data set's interface: squares of 8 classes, two per image."""

    def __init__(self, images: int = 24, sides: tuple[int, int] = (40, 72)) -> None:
        draw = np.random.default_rng(3)
        self.root = "memory"
        self.info = SimpleNamespace(
            name="synthetic",
            classes=tuple("abcdefghijklmnopqrst"),
            fingerprint="tiny",
            labels="class-index",
            folds=(),
        )
        self.keys = [f"image{row:02d}" for row in range(images)]
        self.splits = np.array(["val", "train"] * (images // 2))
        self.checksums = self.keys
        self.sizes = draw.integers(*sides, (images, 2)).astype(np.int32)
        self.images, self.labels = [], []
        for row, (height, width) in enumerate(self.sizes.tolist()):
            image = draw.integers(0, 90, (height, width, 3)).astype(np.uint8)
            label = np.zeros((height, width), dtype=np.uint8)
            for corner, class_id in ((0, 1 + row // 2 % 4), (20, 5 + row // 3 % 4)):
                label[corner : corner + 18, corner : corner + 18] = class_id
                label[corner + 17, corner : corner + 18] = IGNORE
            image[label > 0] += (20 * label[label > 0, None] % 160).astype(np.uint8)
            self.images.append(image)
            self.labels.append(label)

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, row: int) -> Any:
        return self.images[row]

    def label(self, row: int) -> Any:
        return self.labels[row]

    def target(self, row: int, classes: tuple[int, ...]) -> Any:
        values = np.zeros(256, dtype=np.uint8)
        values[IGNORE] = IGNORE
        for way, class_id in enumerate(classes, start=1):
            values[class_id] = way
        return values[self.labels[row]]

    def mask(self, row: int, class_id: int) -> Any:
        return self.target(row, (class_id,))

    def area(self, row: int, class_id: int) -> int:
        return int((self.labels[row] == class_id).sum())

    def classes_of(self, row: int) -> Any:
        return np.unique(self.labels[row][(self.labels[row] > 0) & (self.labels[row] < IGNORE)])

    def rows_of(self, class_id: int, split: str, min_area: int = 0) -> Any:
        rows = [r for r in range(len(self)) if self.area(r, class_id) > min_area]
        return np.array([r for r in rows if self.splits[r] == split], dtype=np.int64)


def memory_episodes(
    dataset: MemoryDataset, count: int, way: int = 1, shot: int = 1
) -> list[Episode]:
    """Episodes over classes 1 to 4, all rows, drawn by a fixed seed."""
    draw = np.random.default_rng(0)
    episodes = []
    for _ in range(count):
        classes = [int(c) for c in draw.permutation([1, 2, 3, 4])[:way]]
        rows = {c: [r for r in range(len(dataset)) if dataset.area(r, c) > 0] for c in classes}
        query = int(draw.choice(rows[classes[0]]))
        supports = [
            int(row)
            for c in classes
            for row in draw.choice([r for r in rows[c] if r != query], shot, replace=False)
        ]
        episodes.append(Episode(query, tuple(supports), tuple(classes)))
    return episodes
