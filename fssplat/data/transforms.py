"""Geometry and colour of what the network sees.

Pixels are uint8 RGB [H, W, 3] and labels uint8 [H, W] until `normalise`, which runs last and on
the device, so that a byte per value travels.

Training changes follow PFENet's public code in kind and order: scale, rotation, blur, flip, crop.
The four geometric ones are one affine map, sampled once; the blur, which they commute with but
for the borders, comes after.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fssplat.data.labels import IGNORE
from fssplat.spec import AugmentSpec

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]
Label = npt.NDArray[np.uint8]  # [H, W]
Mode = Literal["pad", "squash", "pad-floor8", "original"]

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, for values 0..1
DEVIATION = (0.229, 0.224, 0.225)
FILL = (124, 116, 104)  # the mean as a pixel: close to 0 once normalised
REDRAWS = 31  # of a crop that loses too much of the object


def normalise(images: Tensor) -> Tensor:
    """uint8 [..., 3, H, W] -> float32 with ImageNet's mean and deviation taken out."""
    mean, scale = _constants(images.device)
    return (images.float() - mean).mul_(scale)


@lru_cache(maxsize=8)
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(MEAN, device=device).view(3, 1, 1) * 255
    scale = 1 / (torch.tensor(DEVIATION, device=device).view(3, 1, 1) * 255)
    return mean, scale


# ---------------------------------------------------------------- one size for all


def content_box(height: int, width: int, size: int, mode: Mode) -> tuple[int, int]:
    """Height and width of an image's content inside the square of `size`, at its top left.

    pad         the longer side fills the square, the shorter keeps the aspect
    pad-floor8  PFENet's code: the same, then both floored to multiples of 8
    squash      both sides fill it
    original    the image as it is; there is no square
    """
    if mode == "original":
        return height, width
    if mode == "squash":
        return size, size
    if mode == "pad":
        longer = max(height, width)
        return max(1, round(size * height / longer)), max(1, round(size * width / longer))
    ratio = size / max(height, width)
    return max(8, int(height * ratio) // 8 * 8), max(8, int(width * ratio) // 8 * 8)


def fit(
    image: Pixels, label: Label, size: int, mode: Mode
) -> tuple[Pixels, Label, tuple[int, int]]:
    """[H, W, 3], [H, W] -> [S, S, 3], [S, S] and the content's height and width.

    What is not content is 255 in the label and the mean colour in the image (0, that is black, for
    pad-floor8, as PFENet's code).
    """
    box = content_box(image.shape[0], image.shape[1], size, mode)
    return fit_image(image, size, mode), fit_label(label, size, mode), box


def fit_image(image: Pixels, size: int, mode: Mode) -> Pixels:
    """[H, W, 3] -> [S, S, 3], bilinear; like Pillow, it averages where it shrinks.

    pad-floor8 samples four neighbours whatever the scale, as OpenCV does.
    """
    height, width = content_box(image.shape[0], image.shape[1], size, mode)
    content = image
    if (height, width) != image.shape[:2]:
        content = _resized(image, height, width, antialias=mode != "pad-floor8")
    if mode == "original" or (height, width) == (size, size):
        return content
    result = np.empty((size, size, 3), dtype=np.uint8)
    result[:] = 0 if mode == "pad-floor8" else np.array(FILL, dtype=np.uint8)
    result[:height, :width] = content
    return result


def fit_label(label: Label, size: int, mode: Mode) -> Label:
    """[H, W] -> [S, S], nearest; 255 where there is no content."""
    height, width = content_box(label.shape[0], label.shape[1], size, mode)
    content = label
    if (height, width) != label.shape:
        rows = np.arange(height) * label.shape[0] // height
        columns = np.arange(width) * label.shape[1] // width
        content = label[rows[:, None], columns]
    if mode == "original" or (height, width) == (size, size):
        return content
    result = np.full((size, size), IGNORE, dtype=np.uint8)
    result[:height, :width] = content
    return result


def _resized(image: Pixels, height: int, width: int, antialias: bool) -> Pixels:
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0)
    result = F.interpolate(planes, (height, width), mode="bilinear", antialias=antialias)
    pixels: Pixels = result[0].permute(1, 2, 0).numpy()
    return pixels


# ---------------------------------------------------------------- random changes


@dataclass(frozen=True)
class Change:
    """What was drawn for one image, but for the crop's position."""

    scale: float
    degrees: float
    blur: bool
    flip: bool


def draw_change(rng: np.random.Generator, spec: AugmentSpec) -> Change:
    """Five numbers are read whatever the settings, so one switch leaves the others' draws alone."""
    scale, rotated, angle, blurred, flipped = rng.random(5).tolist()
    low, high = spec.scale
    degrees = (2 * angle - 1) * spec.rotate if rotated < 0.5 else 0.0
    return Change(
        low + (high - low) * scale,
        degrees,
        spec.blur and blurred < 0.5,
        spec.flip and flipped < 0.5,
    )


def augment(
    image: Pixels, label: Label, size: int, spec: AugmentSpec, rng: np.random.Generator
) -> tuple[Pixels, Label]:
    """A training image and its label at [S, S], changed at random; the object is what is 1..254."""
    change = draw_change(rng, spec)
    if spec.resize != "crop" and change.scale == 1 and change.degrees == 0:
        image, label, _ = fit(image, label, size, spec.resize)
        if change.flip:
            image, label = image[:, ::-1], label[:, ::-1]
    else:
        canvas = Canvas(image.shape[0], image.shape[1], size, spec.resize, change)
        whole = canvas.label(label)
        top, left = canvas.crop(whole, spec.keep_object, rng)
        image = canvas.image(image, top, left)
        label = padded_crop(whole, top, left, size, IGNORE)
    return blurred(image) if change.blur else image, label


class Canvas:
    """The scaled, rotated and flipped image that a crop is cut from; only the crop is sampled."""

    def __init__(
        self,
        height: int,
        width: int,
        size: int,
        resize: Literal["crop", "squash", "pad"],
        change: Change,
    ) -> None:
        base = (height, width) if resize == "crop" else content_box(height, width, size, resize)
        self.height = max(1, round(base[0] * change.scale))
        self.width = max(1, round(base[1] * change.scale))
        self.size = size
        self.matrix = _to_source(height, width, self.height, self.width, change)
        self.centred = resize == "crop"

    def label(self, label: Label) -> Label:
        """The whole canvas, nearest; 255 where rotation brings in what is outside the image."""
        size = (self.width, self.height)
        picture = Image.fromarray(label).transform(
            size, Image.Transform.AFFINE, self.matrix, Image.Resampling.NEAREST, fillcolor=IGNORE
        )
        return np.asarray(picture)

    def crop(self, label: Label, keep: float, rng: np.random.Generator) -> tuple[int, int]:
        """Top and left of the crop on the canvas; negative where the canvas is smaller.

        Drawn again, up to 31 times, while it keeps less than `keep` of the object's pixels.
        """
        spare = (self.height - self.size, self.width - self.size)
        if max(spare) <= 0:
            return self._border(spare[0]), self._border(spare[1])
        shown = (label > 0) & (label < IGNORE)
        wanted = keep * int(shown.sum())
        for _ in range(1 + REDRAWS):
            top, left = (
                self._position(room, value)
                for room, value in zip(spare, rng.random(2), strict=True)
            )
            if keep <= 0:
                break
            inside = shown[max(top, 0) : top + self.size, max(left, 0) : left + self.size]
            if int(inside.sum()) >= wanted:
                break
        return top, left

    def _position(self, room: int, value: float) -> int:
        return int(value * (room + 1)) if room > 0 else self._border(room)

    def _border(self, room: int) -> int:
        """Where a canvas that leaves `room` < 0 pixels over begins: half of it on each side."""
        return -(-room // 2) if self.centred else 0

    def image(self, image: Pixels, top: int, left: int) -> Pixels:
        """The crop, bilinear [S, S, 3]; outside of the image it has the mean colour."""
        first_row, first_column = max(top, 0), max(left, 0)
        height = min(self.height, top + self.size) - first_row
        width = min(self.width, left + self.size) - first_column
        content = self._sampled(image, first_row, first_column, height, width)
        if (height, width) == (self.size, self.size):
            return content
        result = np.empty((self.size, self.size, 3), dtype=np.uint8)
        result[:] = FILL
        row, column = first_row - top, first_column - left
        result[row : row + height, column : column + width] = content
        return result

    def _sampled(self, image: Pixels, row: int, column: int, height: int, width: int) -> Pixels:
        a, b, c, d, e, f = self.matrix
        if (b, d, e) == (0, 0, 1) and abs(a) == 1:  # pixels stay whole: nothing to sample
            turned = image if a == 1 else image[:, ::-1]
            return turned[row : row + height, column : column + width]
        x = torch.arange(column, column + width) + 0.5
        y = torch.arange(row, row + height).unsqueeze(1) + 0.5
        source_height, source_width = image.shape[:2]
        grid = torch.empty(1, height, width, 2)
        torch.add(a * x + c, b * y, out=grid[0, ..., 0]).mul_(2 / source_width).sub_(1)
        torch.add(d * x + f, e * y, out=grid[0, ..., 1]).mul_(2 / source_height).sub_(1)
        fill = torch.tensor(FILL).view(3, 1, 1)
        planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1) - fill
        found = F.grid_sample(planes.float().unsqueeze(0), grid, align_corners=False)[0]
        pixels: Pixels = found.add_(fill).round_().to(torch.uint8).permute(1, 2, 0).numpy()
        return pixels


def _to_source(
    height: int, width: int, canvas_height: int, canvas_width: int, change: Change
) -> tuple[float, float, float, float, float, float]:
    """(a, b, c, d, e, f): canvas point (x, y) -> image point (ax + by + c, dx + ey + f).

    Points are in pixels from the corner, a pixel's middle at .5. The canvas is the image scaled,
    then turned about its middle, then mirrored.
    """
    cos, sin = math.cos(math.radians(change.degrees)), math.sin(math.radians(change.degrees))
    mirror = -1.0 if change.flip else 1.0
    across, down = width / canvas_width, height / canvas_height
    a, b = across * cos * mirror, across * -sin
    d, e = down * sin * mirror, down * cos
    c = width / 2 - a * canvas_width / 2 - b * canvas_height / 2
    f = height / 2 - d * canvas_width / 2 - e * canvas_height / 2
    return a, b, c, d, e, f


def padded_crop(label: Label, top: int, left: int, size: int, fill: int) -> Label:
    """[size, size] of a label from (top, left), which may lie outside; `fill` where it does."""
    result = np.full((size, size), fill, dtype=np.uint8)
    inside = label[max(top, 0) : top + size, max(left, 0) : left + size]
    row, column = max(-top, 0), max(-left, 0)
    result[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return result


def blurred(image: Pixels) -> Pixels:
    """5 x 5 Gaussian with OpenCV's weights 1 4 6 4 1, borders mirrored; exact integers."""
    wide = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect").astype(np.uint16)
    rows = _binomial(wide[:-4], wide[1:-3], wide[2:-2], wide[3:-1], wide[4:])
    both = _binomial(rows[:, :-4], rows[:, 1:-3], rows[:, 2:-2], rows[:, 3:-1], rows[:, 4:])
    both += np.uint16(128)
    both >>= np.uint16(8)
    return both.astype(np.uint8)


def _binomial(
    a: npt.NDArray[np.uint16],
    b: npt.NDArray[np.uint16],
    c: npt.NDArray[np.uint16],
    d: npt.NDArray[np.uint16],
    e: npt.NDArray[np.uint16],
) -> npt.NDArray[np.uint16]:
    """a + 4b + 6c + 4d + e; twice over a byte it stays below 2^16."""
    total = c * np.uint16(6)
    beside = b + d
    beside <<= np.uint16(2)
    total += beside
    total += a
    total += e
    return total
