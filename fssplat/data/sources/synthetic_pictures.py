"""Draw one synthetic picture and its label.

A class is a form with its texture. A picture shows several objects of several classes, which may
hide one another, on a cluttered background with small unlabelled pieces of the same forms and
textures. The two hues of a class vary from object to object, as do size, angle, aspect and light,
so no single colour identifies a class. A picture is a pure function of (seed, split, number).
"""

import colorsys
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from fssplat.data.masks.labels import IGNORE, Label
from fssplat.data.sources.shapes import FORMS, TEXTURES, Plane

VERSION = 1  # raised when the pictures change
CLASSES = tuple(f"{texture} {form}" for texture, form in zip(TEXTURES, FORMS, strict=True))
HUES = tuple(
    ((7 * c) % 20) / 20 for c in range(20)
)  # of a class's first colour, in turns of the colour wheel
SIDES = (160, 176, 192)  # pixels
MAIN_AREA = (0.09, 0.6)  # approximate share of the image that its main object covers
OTHER_AREA = (0.02, 0.25)
VISIBLE = 0.07  # least share of the image in which the main object is visible

Picture = npt.NDArray[np.float32]  # [H, W, 3] in [0, 1]


@dataclass(frozen=True)
class Piece:
    """One object, or one unlabelled piece. Lengths in pixels, angles in radians."""

    form: str
    texture: str
    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    period: float  # of the texture, in radii
    phase: tuple[float, float]
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    light: tuple[float, float]  # change of brightness from edge to edge, along x and y


def draw(seed: int, split: str, number: int) -> tuple[npt.NDArray[np.uint8], Label]:
    """RGB [H, W, 3] and label [H, W], which is 255 along the edges of objects."""
    rng = np.random.default_rng([VERSION, seed, ("train", "val").index(split), number])
    height, width = (int(side) for side in rng.choice(SIDES, 2))
    picture = background(rng, height, width)
    for _ in range(rng.integers(4, 10)):
        _paint(picture, clutter(rng, height, width))
    main = number % len(CLASSES) + 1  # every class is the main class equally often
    while True:  # until enough of the main object is visible
        pieces = arrangement(rng, height, width, main)
        scene, label = picture.copy(), np.zeros((height, width), dtype=np.uint8)
        for class_id, piece in pieces:
            _stamp(label, class_id, _paint(scene, piece))
        if (label == main).mean() >= VISIBLE:
            return _add_camera_noise(rng, scene), label


def arrangement(
    rng: np.random.Generator, height: int, width: int, main: int
) -> list[tuple[int, Piece]]:
    """Class id and piece of every object, from back to front."""
    objects = [(main, instance(rng, height, width, main, MAIN_AREA))]
    if rng.random() < 0.2:
        objects.append((main, instance(rng, height, width, main, OTHER_AREA)))
    for _ in range(rng.integers(1, 4)):
        other = int(rng.integers(1, len(CLASSES) + 1))
        objects.append((other, instance(rng, height, width, other, OTHER_AREA)))
    return [objects[i] for i in rng.permutation(len(objects))]


def instance(
    rng: np.random.Generator, height: int, width: int, class_id: int, area: tuple[float, float]
) -> Piece:
    """One object of a class, with the class's form and texture; everything else is random."""
    form, texture = list(FORMS)[class_id - 1], list(TEXTURES)[class_id - 1]
    share = float(np.exp(rng.uniform(*np.log(area))))
    # A form covers about 2.2 of the 4 units of area in the square [-1, 1]^2.
    radius = float(np.sqrt(share * height * width / 2.2))
    aspect = float(np.exp(rng.uniform(-0.25, 0.25)))
    hue = HUES[class_id - 1]
    return Piece(
        form,
        texture,
        (float(rng.uniform(0.2, 0.8)) * width, float(rng.uniform(0.2, 0.8)) * height),
        (radius * aspect, radius / aspect),
        float(rng.uniform(-0.7, 0.7)),
        float(np.exp(rng.uniform(-0.2, 0.2))) * 0.42,
        (float(rng.uniform(0, 1)), float(rng.uniform(0, 1))),
        (
            colour(rng, hue + rng.normal(0, 0.05), (0.5, 0.9), (0.55, 1.0)),
            colour(rng, hue + 0.3 + rng.normal(0, 0.08), (0.3, 0.8), (0.1, 0.5)),
        ),
        (float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.2, 0.2))),
    )


def clutter(rng: np.random.Generator, height: int, width: int) -> Piece:
    """A small unlabelled piece of any form, texture and colour."""
    radius = float(rng.uniform(0.03, 0.1)) * min(height, width)
    hue = float(rng.random())
    return Piece(
        str(rng.choice(list(FORMS))),
        str(rng.choice(list(TEXTURES))),
        (float(rng.uniform(0, width)), float(rng.uniform(0, height))),
        (radius, radius),
        float(rng.uniform(-np.pi, np.pi)),
        float(rng.uniform(0.5, 1.5)),
        (0.0, 0.0),
        (
            colour(rng, hue, (0.1, 0.9), (0.3, 1.0)),
            colour(rng, hue + 0.2, (0.1, 0.9), (0.1, 0.7)),
        ),
        (0.0, 0.0),
    )


def colour(
    rng: np.random.Generator,
    hue: float,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(
        float(hue) % 1, float(rng.uniform(*saturation)), float(rng.uniform(*value))
    )


def background(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Patches of faint texture in two or three muted colours, crossed by a few lines."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = np.empty((height, width, 3), dtype=np.float32)
    picture[:] = colour(rng, rng.random(), (0.05, 0.45), (0.3, 0.85))
    for _ in range(rng.integers(2, 4)):
        angle, period = rng.uniform(0, np.pi), rng.uniform(8, 28)
        u = (math.cos(angle) * x + math.sin(angle) * y) / period
        v = (math.cos(angle) * y - math.sin(angle) * x) / period
        tone = TEXTURES[str(rng.choice(list(TEXTURES)))](u, v)[..., None]
        tint = np.array(colour(rng, rng.random(), (0.05, 0.5), (0.2, 0.9)), dtype=np.float32)
        patch = (smooth_noise(rng, height, width, 3) > 0)[..., None]
        picture = np.where(patch, tint * (0.8 + rng.uniform(0.1, 0.5) * (tone - 0.5)), picture)
    for _ in range(rng.integers(2, 7)):
        angle, place = rng.uniform(0, np.pi), rng.uniform(-0.3, 1.0) * width
        distance = np.abs(math.cos(angle) * x + math.sin(angle) * y - place)
        line = colour(rng, rng.random(), (0.0, 0.6), (0.1, 1.0))
        picture[distance < rng.uniform(0.5, 2.0)] = line
    return np.clip(picture + 0.06 * smooth_noise(rng, height, width, 8)[..., None], 0, 1)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Plane:
    """Normal noise on a coarse grid, enlarged to [H, W]: mean about 0, deviation below 1."""
    grid = rng.normal(size=(cells + 1, cells + 1)).astype(np.float32)
    enlarged = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, dtype=np.float32)


# ---------------------------------------------------------------- drawing


def _paint(picture: Picture, piece: Piece) -> npt.NDArray[np.bool_]:
    """Draw the piece with soft edges; return the pixels that it mostly covers, bool [H, W]."""
    height, width = picture.shape[:2]
    covered = np.zeros((height, width), dtype=bool)
    reach = 1.5 * max(piece.radii)
    left, right = _span(piece.centre[0], reach, width)
    top, bottom = _span(piece.centre[1], reach, height)
    if left >= right or top >= bottom:
        return covered
    y, x = np.mgrid[top:bottom:0.5, left:right:0.5].astype(np.float32) + np.float32(0.25)
    dx, dy = x - piece.centre[0], y - piece.centre[1]
    px = (math.cos(piece.angle) * dx + math.sin(piece.angle) * dy) / piece.radii[0]
    py = (math.cos(piece.angle) * dy - math.sin(piece.angle) * dx) / piece.radii[1]
    tone = TEXTURES[piece.texture](
        px / piece.period + piece.phase[0], py / piece.period + piece.phase[1]
    )[..., None]
    first, second = (np.array(c, dtype=np.float32) for c in piece.colours)
    light = (1 + piece.light[0] * px + piece.light[1] * py)[..., None]
    drawn = np.clip((first * tone + second * (1 - tone)) * light, 0, 1)
    alpha = FORMS[piece.form](px, py).astype(np.float32)[..., None]
    share = _halved(alpha)
    patch = picture[top:bottom, left:right]
    patch *= 1 - share
    patch += _halved(drawn * alpha)
    covered[top:bottom, left:right] = share[..., 0] > 0.5
    return covered


def _span(centre: float, reach: float, limit: int) -> tuple[int, int]:
    return max(0, int(centre - reach)), min(limit, int(centre + reach) + 1)


def _halved(fine: Picture) -> Picture:
    """Means over 2 x 2 fine pixels."""
    rows = fine[0::2] + fine[1::2]
    return np.asarray((rows[:, 0::2] + rows[:, 1::2]) / 4, dtype=np.float32)


def _stamp(label: Label, class_id: int, covered: npt.NDArray[np.bool_]) -> None:
    """Write an object into the label; two pixels along its edge become 255."""
    label[covered] = class_id
    mask = Image.fromarray(covered.astype(np.uint8))
    wide, narrow = mask.filter(ImageFilter.MaxFilter(3)), mask.filter(ImageFilter.MinFilter(3))
    label[np.asarray(wide) != np.asarray(narrow)] = IGNORE


def _add_camera_noise(rng: np.random.Generator, scene: Picture) -> npt.NDArray[np.uint8]:
    """Add a colour cast, exposure and grain; uint8 [H, W, 3]."""
    cast = rng.normal(1.0, 0.05, 3) * np.exp(rng.normal(0, 0.12))
    grain = rng.normal(0, rng.uniform(0.005, 0.03), scene.shape)
    return np.asarray(np.clip(255 * (scene * cast + grain), 0, 255).round(), dtype=np.uint8)
