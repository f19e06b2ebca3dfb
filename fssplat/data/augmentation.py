"""Change training images and their labels at random.

Augmentation follows PFENet's public code in kind and order: scale, rotation, blur, flip, crop.
The four geometric changes are one affine map, sampled once; the blur is applied after them, which
gives the same result except at the borders.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.data.masks.labels import IGNORE
from fssplat.data.transforms import FILL, Label, Pixels, content_box, fit
from fssplat.experiment.schema import AugmentSpec

Resize = Literal["crop", "corner-crop", "squash", "pad"]
REDRAWS = 31  # how often a crop that loses too much of the object is drawn again


@dataclass(frozen=True)
class Change:
    """The random changes of one image, without the position of the crop."""

    scale: float
    degrees: float
    blur: bool
    flip: bool


def draw_change(rng: np.random.Generator, spec: AugmentSpec) -> Change:
    """Always draws five numbers, so that switching one change off does not alter the others."""
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
) -> tuple[Tensor, Tensor]:
    """Change a training image and its label at random: uint8 [3, S, S] and [S, S].

    Label values 1 to 254 are the object, of which a crop keeps the share `spec.keep_object`.
    """
    change = draw_change(rng, spec)
    if spec.resize in ("squash", "pad") and change.scale == 1 and change.degrees == 0:
        image, label, _ = fit(image, label, size, spec.resize)
        pixels, target = planes_of(image).contiguous(), torch.from_numpy(label)
        if change.flip:
            pixels, target = pixels.flip(2), target.flip(1)
    else:
        canvas = Canvas(image.shape[0], image.shape[1], size, spec.resize, change)
        whole = canvas.label(label)
        top, left = canvas.crop(whole, spec.keep_object, rng)
        pixels = canvas.image(image, top, left)
        target = torch.from_numpy(padded_crop(whole, top, left, size))
    return blurred(pixels) if change.blur else pixels, target


def planes_of(image: Pixels) -> Tensor:
    """[H, W, 3] -> [3, H, W], a view."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


class Canvas:
    """The scaled, rotated and flipped image from which a crop is taken.

    The whole label is computed, since the crop depends on the object's position; of the image only
    the crop is. The image is always interpolated between four neighbours, the label never.
    """

    def __init__(
        self,
        height: int,
        width: int,
        size: int,
        resize: Resize,
        change: Change,
    ) -> None:
        base = height, width
        if resize == "squash" or resize == "pad":
            base = content_box(height, width, size, resize)
        self.height = max(1, round(base[0] * change.scale))
        self.width = max(1, round(base[1] * change.scale))
        self.size, self.change = size, change
        self.centred = resize == "crop"  # other kinds put the content at the top left
        self.padded_left = resize == "corner-crop" and change.flip  # flipped after padding
        self.fill = (0, 0, 0) if resize == "corner-crop" else FILL
        self.source = (height, width)

    def label(self, label: Label) -> Label:
        """The label of the whole canvas; 255 outside the rotated image."""
        if self.change.degrees:
            source = bordered(torch.from_numpy(np.ascontiguousarray(label))[None], (IGNORE,))
            whole = slice(0, self.height), slice(0, self.width)
            result: Label = self._rotated(source, *whole, "nearest")[0].numpy()
            return result
        scaled = label
        if (self.height, self.width) != label.shape:
            rows, columns = (
                ((np.arange(side) + 0.5) * of / side).astype(np.int64)
                for side, of in zip((self.height, self.width), label.shape, strict=True)
            )
            scaled = label.take(rows, axis=0).take(columns, axis=1)
        return scaled[:, ::-1] if self.change.flip else scaled

    def image(self, image: Pixels, top: int, left: int) -> Tensor:
        """The crop, uint8 [3, S, S]; `fill` outside the image."""
        rows = slice(max(top, 0), min(self.height, top + self.size))
        columns = slice(max(left, 0), min(self.width, left + self.size))
        content = self._content(image, rows, columns)
        height, width = content.shape[1:]
        if (height, width) == (self.size, self.size):
            return content.contiguous()
        result = torch.empty(3, self.size, self.size, dtype=torch.uint8)
        result[:] = torch.tensor(self.fill, dtype=torch.uint8).view(3, 1, 1)
        row, column = max(-top, 0), max(-left, 0)
        result[:, row : row + height, column : column + width] = content
        return result

    def _content(self, image: Pixels, rows: slice, columns: slice) -> Tensor:
        """Part of the canvas, [3, h, w]."""
        height, width = image.shape[:2]
        if self.change.degrees:
            return self._rotated(bordered(planes_of(image), self.fill), rows, columns, "bilinear")
        scaled = planes_of(image)
        if (self.height, self.width) != (height, width):
            size = (self.height, self.width)
            scaled = F.interpolate(scaled.unsqueeze(0), size, mode="bilinear")[0]
        if self.change.flip:
            columns = slice(self.width - columns.stop, self.width - columns.start)
            return scaled[:, rows, columns].flip(2)
        return scaled[:, rows, columns]

    def _rotated(self, source: Tensor, rows: slice, columns: slice, mode: str) -> Tensor:
        """Part of the rotated canvas, uint8 [c, h, w], from an image with a border of one pixel.

        The rotation is about the centre of the canvas; pixels beyond the border have its colour.
        """
        height, width = self.source
        angle = math.radians(self.change.degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        across, down = (  # canvas pixels -> -1 to 1 over the image and its border
            2 * side / (of * (side + 2))
            for side, of in ((width, self.width), (height, self.height))
        )
        x = torch.arange(columns.start, columns.stop) + 0.5 - self.width / 2
        y = torch.arange(rows.start, rows.stop).unsqueeze(1) + 0.5 - self.height / 2
        if self.change.flip:
            x = -x
        grid = torch.empty(2, len(y), len(x))
        torch.add(x * (across * cos), y * (-across * sin), out=grid[0])
        torch.add(x * (down * sin), y * (down * cos), out=grid[1])
        where = grid.permute(1, 2, 0).unsqueeze(0)
        found = F.grid_sample(source, where, mode, padding_mode="border", align_corners=False)
        return found[0].round_().byte()

    def crop(self, label: Label, keep: float, rng: np.random.Generator) -> tuple[int, int]:
        """Top and left of the crop on the canvas; negative if the canvas is smaller.

        A crop with less than the share `keep` of the object's pixels is drawn again, up to 31
        times. Then the draw with most of them is taken (PFENet's code takes the last draw, which
        may have lost the whole object).
        """
        spare = (self.height - self.size, self.width - self.size)
        if max(spare) <= 0:
            return self._border(spare[0]), self._border(spare[1], across=True)
        shown = (label > 0) & (label < IGNORE)
        wanted = keep * np.count_nonzero(shown)
        best, place = -1, (0, 0)
        for _ in range(1 + REDRAWS):
            draws = rng.random(2).tolist()
            top = self._position(spare[0], draws[0])
            left = self._position(spare[1], draws[1], across=True)
            inside = shown[max(top, 0) : top + self.size, max(left, 0) : left + self.size]
            kept = int(np.count_nonzero(inside))
            if kept > best:
                best, place = kept, (top, left)
            if kept >= wanted:
                break
        return place

    def _position(self, room: int, draw: float, across: bool = False) -> int:
        return int(draw * (room + 1)) if room > 0 else self._border(room, across)

    def _border(self, room: int, across: bool = False) -> int:
        """First pixel of the crop if the canvas is smaller than the crop by -`room` pixels."""
        if self.centred:
            return -(-room // 2)
        return room if across and self.padded_left else 0


def bordered(planes: Tensor, colour: tuple[int, ...]) -> Tensor:
    """uint8 [c, H, W] -> float32 [1, c, H + 2, W + 2] with a border of one pixel."""
    channels, height, width = planes.shape
    result = torch.empty(1, channels, height + 2, width + 2)
    edge = torch.tensor(colour, dtype=torch.float32).view(channels, 1)
    for line in (result[0, :, 0], result[0, :, -1], result[0, :, :, 0], result[0, :, :, -1]):
        line.copy_(edge)
    result[0, :, 1:-1, 1:-1] = planes
    return result


def padded_crop(label: Label, top: int, left: int, size: int) -> Label:
    """Crop a label at (top, left), which may be outside of it: [S, S], 255 outside."""
    result = np.full((size, size), IGNORE, dtype=np.uint8)
    inside = label[max(top, 0) : top + size, max(left, 0) : left + size]
    row, column = max(-top, 0), max(-left, 0)
    result[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return result


def blurred(planes: Tensor) -> Tensor:
    """5 x 5 Gaussian of uint8 [3, H, W]: OpenCV's weights 1 4 6 4 1, mirrored at the borders.

    Computed as four sums of two neighbours in each direction. The sums stay below 2^16, so the
    result is exact. One plane at a time, because a plane fits into the processor's cache.
    """
    result = torch.empty_like(planes)
    for source, target in zip(planes, result, strict=True):
        sums = np.pad(source.numpy(), 2, mode="reflect").astype(np.uint16)
        for _ in range(4):
            sums = sums[1:] + sums[:-1]
        for _ in range(4):
            sums = sums[:, 1:] + sums[:, :-1]
        sums += np.uint16(128)
        sums >>= np.uint16(8)
        target.copy_(torch.from_numpy(sums))
    return result
