"""The pictures of one episode: supports, query, truth, predictions with their errors in colour."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fssplat.report.document.content import Tile

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]
Mask = npt.NDArray[np.bool_]  # [H, W]
Labels = npt.NDArray[Any]  # [H, W]: 1 object, 255 ignored

IGNORED = 255
HEIGHT = 150  # of a tile in a page, pixels
QUALITY = 72  # of WebP
OBJECT = (240, 228, 66)  # yellow: the object, or a pixel that is rightly found
MISSED = (86, 180, 233)  # sky blue: an object's pixel that is not found
FALSE = (213, 94, 0)  # vermilion: a pixel that is wrongly taken for the object
TINT = 0.55  # share of a colour on its pixels
GREY, VEIL = 128, 0.7  # ignored pixels are grey, with a trace of the image


@dataclass(frozen=True)
class Drawn:
    """One picture and what it shows."""

    title: str
    pixels: Pixels


def plain(title: str, image: Pixels) -> Drawn:
    return Drawn(title, image)


def labelled(title: str, image: Pixels, labels: Labels) -> Drawn:
    """The image with the object in yellow."""
    shown = image.astype(np.float32)
    _tint(shown, labels == 1, OBJECT)
    _veil(shown, labels == IGNORED)
    return Drawn(title, shown.round().astype(np.uint8))


def judged(title: str, image: Pixels, truth: Labels, prediction: Mask) -> Drawn:
    """The image with right pixels in yellow, missed ones in blue, false ones in vermilion.

    A prediction of another size is stretched to the truth's. Ignored pixels are not judged.
    """
    found = np.asarray(
        Image.fromarray(prediction).resize(truth.shape[::-1], Image.Resampling.NEAREST)
    )
    ignored, there = truth == IGNORED, truth == 1
    shown = image.astype(np.float32)
    _tint(shown, found & there, OBJECT)
    _tint(shown, ~found & there, MISSED)
    _tint(shown, found & ~there & ~ignored, FALSE)
    _veil(shown, ignored)
    return Drawn(title, shown.round().astype(np.uint8))


def small(tile: Drawn, height: int = HEIGHT) -> Image.Image:
    """At most `height` pixels high and twice as wide; never enlarged."""
    image = Image.fromarray(tile.pixels)
    scale = min(1.0, height / image.height, 2 * height / image.width)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def webp(tile: Drawn) -> Tile:
    """The tile for a page; equal tiles give equal bytes."""
    stream = io.BytesIO()
    image = small(tile)
    image.save(stream, format="WEBP", quality=QUALITY, method=6)
    return Tile(tile.title, stream.getvalue(), image.width, image.height)


def _tint(shown: npt.NDArray[np.float32], where: Mask, colour: tuple[int, int, int]) -> None:
    shown[where] = (1 - TINT) * shown[where] + TINT * np.array(colour, dtype=np.float32)


def _veil(shown: npt.NDArray[np.float32], where: Mask) -> None:
    shown[where] = (1 - VEIL) * shown[where] + VEIL * GREY
