"""Polygons, rectangles and discs as regions; all are filled by COCO's rule for polygons."""

from dataclasses import dataclass

import numpy as np

from fssplat.data.readers.shapes.coco_shapes import Inside, draw_shape


@dataclass(frozen=True)
class Polygon:
    """A closed outline, x, y, x, y, ..."""

    corners: tuple[float, ...]
    relative: bool = False  # corners are shares of the width and the height, else pixels

    def draw(self, height: int, width: int) -> Inside:
        corners = list(self.corners)
        if self.relative:
            scale = (width, height) * (len(corners) // 2)
            corners = [share * side for share, side in zip(corners, scale, strict=False)]
        return draw_shape([corners], height, width)


@dataclass(frozen=True)
class Disc:
    """The pixels whose centres are at most `radius` from a point."""

    x: float
    y: float
    radius: float

    def draw(self, height: int, width: int) -> Inside:
        rows, columns = np.ogrid[:height, :width]
        inside: Inside = np.hypot(columns + 0.5 - self.x, rows + 0.5 - self.y) <= self.radius
        return inside


def rectangle(x1: float, y1: float, x2: float, y2: float, relative: bool = False) -> Polygon:
    """The rectangle between two opposite corners."""
    return Polygon((x1, y1, x2, y1, x2, y2, x1, y2), relative)


def ellipse(x: float, y: float, across: float, down: float, relative: bool = False) -> Polygon:
    """The ellipse around (x, y) with the half axes `across` and `down`, as 72 corners."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    corners = np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], axis=1)
    return Polygon(tuple(corners.ravel().tolist()), relative)


def numbers(values: object, what: str) -> tuple[float, ...]:
    """A flat or nested list of numbers as one tuple. Raises ValueError for anything else."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"{what} is not a list of numbers")
    flat: list[float] = []
    for value in values:
        if isinstance(value, list | tuple):
            flat += numbers(value, what)
        elif type(value) in (int, float):
            flat.append(float(value))
        else:
            raise ValueError(f"{what} is not a list of numbers")
    return tuple(flat)
