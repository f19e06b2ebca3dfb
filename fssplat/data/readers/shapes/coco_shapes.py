"""Draw COCO's segmentations: polygons and run-length encodings (RLE).

Every number is checked before anything is drawn. pycocotools takes memory for each pixel of an
outline, however far its corners are (21 GiB were seen), and writes beyond its memory for runs that
are longer than the image.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Inside = npt.NDArray[np.bool_]  # [H, W]


def draw_shape(shape: Any, height: int, width: int) -> Inside:
    """A list of polygons, or an RLE with `size` and `counts`, as bool [H, W].

    Raises ValueError, which says what is wrong, for a segmentation that cannot be right.
    """
    if isinstance(shape, list):
        return _draw_polygons(shape, height, width)
    if not isinstance(shape, dict) or not {"size", "counts"} <= set(shape):
        raise ValueError("it is neither a list of polygons nor an RLE with size and counts")
    return _draw_runs(shape["size"], shape["counts"], height, width)


# ------------------------------------------------------------------ polygons


def _draw_polygons(polygons: list[Any], height: int, width: int) -> Inside:
    from pycocotools import mask

    if not polygons:
        raise ValueError("it has no polygon")
    for polygon in polygons:
        _check_polygon(polygon, height, width)
    outline = mask.merge(mask.frPyObjects(polygons, height, width))
    inside: Inside = mask.decode(outline).astype(bool)
    return inside


def _check_polygon(polygon: Any, height: int, width: int) -> None:
    """x, y, x, y, ... of at least three corners, at most one image side outside of the image."""
    if not isinstance(polygon, list) or not all(type(value) in (int, float) for value in polygon):
        raise ValueError("a polygon is not a list of numbers")
    if len(polygon) % 2:
        raise ValueError(f"a polygon has an odd number of coordinates, {len(polygon)}")
    if len(polygon) < 6:
        raise ValueError("a polygon has fewer than three corners")
    for corners, side, name in ((polygon[::2], width, "x"), (polygon[1::2], height, "y")):
        wrong = next((value for value in corners if not -side <= value <= 2 * side), None)
        if wrong is not None:  # NaN and infinity, too
            raise ValueError(f"a polygon has a corner at {name} = {wrong:.6g}, far from the image")
        if max(corners) < 0 or min(corners) > side:
            raise ValueError("a polygon is outside of the image")


# ------------------------------------------------------------------ runs


def _draw_runs(size: Any, counts: Any, height: int, width: int) -> Inside:
    """Runs of pixels outside and inside in turn, down the first column, then the next."""
    if not isinstance(size, list) or [*map(type, size)] != [int, int]:
        raise ValueError("the size of an RLE is not two whole numbers")
    if size != [height, width]:
        raise ValueError(
            f"an RLE is {size[0]} x {size[1]} (height x width), the image {height} x {width}"
        )
    runs = list(_uncompressed(counts, height * width)) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int for run in runs):
        raise ValueError("the counts of an RLE are neither text nor a list of whole numbers")
    if any(run < 0 for run in runs):
        raise ValueError(f"an RLE has a run of {min(runs)} pixels")
    if sum(runs) != height * width:
        raise ValueError(f"the runs of an RLE add up to {sum(runs)} pixels, not {height * width}")
    inside = np.zeros(height * width, dtype=bool)
    ends = np.cumsum(runs, dtype=np.int64)
    for start, end in zip(ends[:-1:2], ends[1::2], strict=False):
        inside[start:end] = True
    return inside.reshape(width, height).T


def _uncompressed(text: str, most: int) -> Iterator[int]:
    """The runs of a compressed RLE, as rleFrString in COCO's maskApi.c reads them.

    A character has five bits of a number, lowest first, and one that says whether more follow;
    from the fourth run on, the number is the difference from the run two places before.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("the text of a compressed RLE is damaged")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if abs(runs[-1]) > most:
            raise ValueError("the text of a compressed RLE has a run longer than the image")
        yield runs[-1]
        value, shift = 0, 0
    if shift:
        raise ValueError("the text of a compressed RLE is cut short")
