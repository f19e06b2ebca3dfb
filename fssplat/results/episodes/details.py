"""The wrong pixels of a trial's episodes by cause, and the sizes of their supports' objects.

`fssplat.engine.scoring.kept.details` defines the parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from fssplat.engine.scoring.kept.names import PARTS

NUMBERS = ("seed", "episode", "way", "class_id", "intersection", "union", *PARTS)
LISTS = ("support_pixels", "support_image_pixels")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Details:
    """One row per episode and way, in the order of the manifests."""

    seed: Ints  # [rows] episode seed
    episode: Ints  # [rows] position in its manifest
    way: Ints  # [rows]
    class_id: Ints  # [rows]
    intersection: Ints  # [rows] pixels
    union: Ints  # [rows] pixels
    parts: Mapping[str, Ints]  # wrong pixels [rows] of each of PARTS
    support_shares: npt.NDArray[np.float64]  # [rows] object / image, mean over shots

    def __len__(self) -> int:
        return len(self.seed)

    def lost(self, classes: int | None = None) -> dict[str, float]:
        """Each part's share of 1 - mIoU; together they are 1 - mIoU.

        Pixels are summed over the episodes of a class and a seed and divided by the class's union;
        the mean is over classes, then over seeds, as that of the mIoU is. `classes`: their number
        if one without episodes counts as IoU 0, and so as missed.
        """
        sums: dict[str, list[float]] = {name: [] for name in PARTS}
        for seed in np.unique(self.seed):
            chosen = self.seed == seed
            ids, group = np.unique(self.class_id[chosen], return_inverse=True)
            union = np.bincount(group, self.union[chosen])
            count = classes or len(ids)
            for name, pixels in self.parts.items():
                share = np.bincount(group, pixels[chosen]) / np.maximum(union, 1)
                sums[name].append(float(share.sum()) / count)
            empty = int((union == 0).sum()) + count - len(ids)  # with IoU 0
            sums["missed"][-1] += empty / count
        return {name: float(np.mean(values)) for name, values in sums.items()}


def read_details(parquet: bytes) -> Details:
    """The rows of a file. Raises ValueError if it is damaged or its parts do not add up."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(BytesIO(parquet), columns=[*NUMBERS, *LISTS])
        if any(column.null_count for column in table.columns):
            raise ValueError("empty values")
        numbers = {name: table[name].to_numpy().astype(np.int64) for name in NUMBERS}
        shares = _shares(*(table[name].to_pylist() for name in LISTS))
    except (
        ValueError,
        OSError,
        KeyError,
        TypeError,
        ZeroDivisionError,
        pa.ArrowException,
    ) as error:
        raise ValueError(f"cannot be read ({str(error).splitlines()[0]})") from error
    parts = {name: numbers.pop(name) for name in PARTS}
    found = Details(**numbers, parts=parts, support_shares=shares)
    wrong = found.union - found.intersection
    if not len(found) or not np.array_equal(sum(parts.values()), wrong):
        raise ValueError("has no episodes, or wrong pixels that do not add up")
    return found


def _shares(objects: list[Any], images: list[Any]) -> npt.NDArray[np.float64]:
    """[rows] the mean over shots of object pixels / image pixels."""
    rows = zip(objects, images, strict=True)
    return np.array(
        [
            sum(pixels / whole for pixels, whole in zip(*row, strict=True)) / len(row[0])
            for row in rows
        ]
    )
