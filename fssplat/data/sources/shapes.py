"""Forms and textures of the synthetic classes, as functions of coordinates.

A form returns which points of the square [-1, 1]^2 are inside; y grows downwards. A texture maps
coordinates, in periods, to a tone in [0, 1]. Arguments and result are arrays of the same shape.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.floating]
Inside = npt.NDArray[np.bool_]
Form = Callable[[Plane, Plane], Inside]
Texture = Callable[[Plane, Plane], Plane]


# ------------------------------------------------------------------ forms


def polygon(*corners: tuple[float, float]) -> Form:
    """Even-odd rule: a point is inside when a ray to the right crosses an odd number of edges."""

    def inside(x: Plane, y: Plane) -> Inside:
        odd = np.zeros(x.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
            if ay != by:
                crosses = (ay > y) != (by > y)
                odd ^= crosses & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
        return odd

    return inside


def polar(radius: Callable[[Plane], Plane]) -> Form:
    """Points whose distance from the centre is below `radius(angle)`."""
    return lambda x, y: np.asarray(np.hypot(x, y) < radius(np.arctan2(y, x)))


def star(points: int, inner: float) -> Form:
    angles = np.pi * np.arange(2 * points) / points - np.pi / 2
    radii = [1.0, inner] * points
    return polygon(
        *((float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True))
    )


def regular(corners: int) -> Form:
    angles = 2 * np.pi * np.arange(corners) / corners - np.pi / 2
    return polygon(*((float(np.cos(a)), float(np.sin(a))) for a in angles))


def ring(x: Plane, y: Plane) -> Inside:
    return np.asarray(np.abs(np.hypot(x, y) - 0.73) < 0.27)


def crescent(x: Plane, y: Plane) -> Inside:
    return np.asarray((np.hypot(x, y) < 1.0) & (np.hypot(x - 0.45, y) > 0.75))


def heart(x: Plane, y: Plane) -> Inside:
    u, v = 1.25 * x, 0.15 - 1.2 * y
    return np.asarray((u**2 + v**2 - 1) ** 3 - u**2 * v**3 < 0)


def half_disc(x: Plane, y: Plane) -> Inside:
    return np.asarray((np.hypot(x, y - 0.4) < 1.0) & (y < 0.4))


def drop(x: Plane, y: Plane) -> Inside:
    t = np.clip((y + 1) / 2, 0, 1)  # 0 at the tip, 1 at the bottom
    return np.asarray(np.abs(x) < 1.84 * t**1.3 * np.sqrt(1 - t))


# ------------------------------------------------------------------ textures


def cell(u: Plane) -> Plane:
    """Each coordinate as its position within a period of length 1, in [-0.5, 0.5)."""
    return np.asarray(u - np.floor(u) - 0.5)


def hard(condition: npt.NDArray[np.bool_]) -> Plane:
    return condition.astype(np.float32)


def wave(u: Plane) -> Plane:
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * u))


def triangle_wave(u: Plane) -> Plane:
    return np.asarray(2 * np.abs(cell(u)))


def checks(u: Plane, v: Plane) -> Plane:
    return np.asarray(np.mod(np.floor(u) + np.floor(v), 2))


def bricks(u: Plane, v: Plane) -> Plane:
    shifted = u / 2 + 0.5 * np.mod(np.floor(v), 2)
    return hard((np.abs(cell(shifted)) < 0.42) & (np.abs(cell(v)) < 0.36))


def scales(u: Plane, v: Plane) -> Plane:
    shifted = u + 0.5 * np.mod(np.floor(2 * v), 2)
    return wave(1.6 * np.hypot(cell(shifted), 0.5 + 0.5 * cell(2 * v)))


def bubbles(u: Plane, v: Plane) -> Plane:
    return hard(np.abs(np.hypot(cell(u), cell(v)) - 0.32) < 0.11)


def crosses(u: Plane, v: Plane) -> Plane:
    x, y = np.abs(cell(u)), np.abs(cell(v))
    return hard((np.minimum(x, y) < 0.12) & (np.maximum(x, y) < 0.38))


def spiral(u: Plane, v: Plane) -> Plane:
    return wave(np.hypot(u, v) + np.arctan2(v, u) / (2 * np.pi))


def rays(u: Plane, v: Plane) -> Plane:
    return hard(np.sin(9 * np.arctan2(v, u)) > 0)


def marble(u: Plane, v: Plane) -> Plane:
    return wave(0.6 * u + 0.45 * np.sin(2.3 * v) + 0.3 * np.sin(3.1 * u + 1.7 * v))


# ------------------------------------------------------------------ classes

FORMS: dict[str, Form] = {
    "disc": lambda x, y: np.hypot(x, y) < 0.95,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.85,
    "triangle": regular(3),
    "star": star(5, 0.45),
    "ring": ring,
    "cross": lambda x, y: (np.minimum(np.abs(x), np.abs(y)) < 0.36)
    & (np.maximum(np.abs(x), np.abs(y)) < 0.98),
    "crescent": crescent,
    "heart": heart,
    "hexagon": regular(6),
    "arrow": polygon((-0.38, 1), (-0.38, 0), (-0.9, 0), (0, -1), (0.9, 0), (0.38, 0), (0.38, 1)),
    "drop": drop,
    "bolt": polygon(
        (0.1, -1), (-0.75, 0.2), (-0.1, 0.2), (-0.4, 1),
        (0.75, -0.3), (0.05, -0.3), (0.6, -1),
    ),
    "flower": polar(lambda angle: 0.72 + 0.28 * np.cos(5 * angle)),
    "bar": lambda x, y: (x / 1.0) ** 4 + (y / 0.42) ** 4 < 1,
    "gear": polar(lambda angle: 0.8 + 0.18 * np.tanh(6 * np.sin(9 * angle))),
    "dome": half_disc,
    "corner": polygon(
        (-0.9, -0.95), (-0.15, -0.95), (-0.15, 0.2),
        (0.95, 0.2), (0.95, 0.95), (-0.9, 0.95),
    ),
    "tee": polygon(
        (-0.95, -0.9), (0.95, -0.9), (0.95, -0.2), (0.36, -0.2),
        (0.36, 0.95), (-0.36, 0.95), (-0.36, -0.2), (-0.95, -0.2),
    ),
    "house": polygon(
        (0, -1), (0.95, -0.15), (0.75, -0.15), (0.75, 0.9),
        (-0.75, 0.9), (-0.75, -0.15), (-0.95, -0.15),
    ),
    "hourglass": polygon(
        (-0.85, -0.95), (0.85, -0.95), (0.25, 0),
        (0.85, 0.95), (-0.85, 0.95), (-0.25, 0),
    ),
}  # fmt: skip

TEXTURES: dict[str, Texture] = {
    "striped": lambda u, v: hard(wave(u) > 0.5),
    "checked": checks,
    "dotted": lambda u, v: hard(np.hypot(cell(u), cell(v)) < 0.3),
    "ringed": lambda u, v: hard(wave(np.hypot(u, v)) > 0.5),
    "gridded": lambda u, v: hard(np.minimum(np.abs(cell(u)), np.abs(cell(v))) < 0.13),
    "bricked": bricks,
    "zigzag": lambda u, v: hard(wave(u + 0.9 * triangle_wave(v / 1.6)) > 0.5),
    "wavy": lambda u, v: wave(u + 0.35 * np.sin(2 * np.pi * v / 1.7)),
    "scaly": scales,
    "diamond": lambda u, v: checks((u + v) / 1.4, (u - v) / 1.4),
    "plaid": lambda u, v: 0.5 * hard(wave(u) > 0.5) + 0.5 * hard(wave(v) > 0.5),
    "sawtooth": lambda u, v: hard(cell(u) + cell(v) > 0),
    "rayed": rays,
    "spiral": spiral,
    "crossed": crosses,
    "bubbly": bubbles,
    "hatched": lambda u, v: hard(np.abs(cell(u + v)) < 0.14),
    "marbled": marble,
    "shaded": lambda u, v: np.clip(0.5 + 0.28 * v, 0, 1),
    "woven": lambda u, v: np.where(checks(u, v) > 0, wave(3 * u), wave(3 * v)),
}
