"""The pixel counts of one trial's episodes at the headline size, from its episodes.parquet."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

COLUMNS = (
    "seed", "episode", "score", "way", "class_id", "class", "query", "supports", "intersection",
    "union", "object_pixels", "image_pixels",
)  # fmt: skip


@dataclass(frozen=True)
class Counts:
    """One row per episode and way, in the order of the manifests."""

    seed: Ints  # [rows] episode seed
    episode: Ints  # [rows] position in its manifest
    way: Ints  # [rows]
    class_id: Ints  # [rows]
    intersection: Ints  # [rows] pixels
    union: Ints  # [rows] pixels
    object_pixels: Ints  # [rows] of the class in the query, at original size
    image_pixels: Ints  # [rows] of the query, at original size
    query: npt.NDArray[np.object_]  # [rows] key of the query image
    supports: tuple[tuple[str, ...], ...]  # [rows] keys of the supports of all ways
    names: Mapping[int, str]  # class id -> name
    episodes: str  # digest of what was drawn: equal digests mean equal episodes

    def __len__(self) -> int:
        return len(self.seed)

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """[rows] IoU of each episode and way; 0 if neither truth nor prediction has a pixel."""
        return np.asarray(self.intersection / np.maximum(self.union, 1))

    @cached_property
    def per_class(self) -> Mapping[int, float]:
        """IoU of each class: pixels summed over the episodes of a seed, mean over seeds."""
        pairs, group = np.unique(np.stack([self.class_id, self.seed]), axis=1, return_inverse=True)
        sums = [
            np.bincount(group.ravel(), pixels, pairs.shape[1])
            for pixels in (self.intersection, self.union)
        ]
        iou = sums[0] / np.maximum(sums[1], 1)
        return {int(c): float(iou[pairs[0] == c].mean()) for c in np.unique(pairs[0])}


def read_counts(parquet: bytes, score: str) -> Counts:
    """The counts at one scored size. Raises ValueError if the file is damaged or has no rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(BytesIO(parquet), columns=list(COLUMNS))
        table = table.filter(pc.equal(table["score"], score))
        if not len(table):
            raise ValueError(f"has no episodes at size {score}")
        return _counts({name: table[name] for name in COLUMNS})
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise ValueError(f"cannot be read ({str(error).splitlines()[0]})") from error


def _counts(columns: Mapping[str, Any]) -> Counts:
    numbers = {
        name: columns[name].to_numpy().astype(np.int64)
        for name in COLUMNS
        if name not in ("score", "class", "query", "supports")
    }
    query = np.array(columns["query"].to_pylist(), dtype=object)
    supports = tuple(tuple(keys) for keys in columns["supports"].to_pylist())
    names = dict(zip(numbers["class_id"].tolist(), columns["class"].to_pylist(), strict=True))
    drawn = zip(
        *(numbers[name].tolist() for name in ("seed", "episode", "way", "class_id")),
        query.tolist(), supports, strict=True,
    )  # fmt: skip
    digest = hashlib.sha256(repr(list(drawn)).encode()).hexdigest()
    return Counts(**numbers, query=query, supports=supports, names=names, episodes=digest)
