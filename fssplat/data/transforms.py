"""Resize and normalise images and labels.

Images are uint8 RGB [H, W, 3] and labels uint8 [H, W] until `normalise`, which runs last and on
the device, so that only one byte per value is copied to it.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.data.masks.labels import IGNORE

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]
Label = npt.NDArray[np.uint8]  # [H, W]
Mode = Literal["pad", "squash", "pad-floor8", "original"]

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, for values in [0, 1]
DEVIATION = (0.229, 0.224, 0.225)
SHIFT = tuple(255 * value for value in MEAN)  # the same for values in [0, 255]
SCALE = tuple(1 / (255 * value) for value in DEVIATION)
FILL = (124, 116, 104)  # the mean colour, close to 0 after `normalise`


def normalise(images: Tensor) -> Tensor:
    """uint8 [..., 3, H, W] -> float32, minus ImageNet's mean, divided by its deviation."""
    shift, scales = _statistics(images.device)
    return images.to(torch.float32, copy=True).sub_(shift).mul_(scales)


@lru_cache(maxsize=8)
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """SHIFT and SCALE on a device, [3, 1, 1]; cached, since copying to a GPU would synchronise."""
    shift, scale = (torch.tensor(v, device=device).view(3, 1, 1) for v in (SHIFT, SCALE))
    return shift, scale


# ---------------------------------------------------------------- resize to one size


def content_box(height: int, width: int, size: int, mode: Mode) -> tuple[int, int]:
    """Height and width of the resized image, which is put at the top left of a square of `size`.

    pad         the longer side fills the square, the aspect ratio is kept
    pad-floor8  the same, then both sides are floored to multiples of 8 (PFENet's code)
    squash      both sides fill the square
    original    the image keeps its size; there is no square
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
    """[H, W, 3], [H, W] -> [S, S, 3], [S, S] and (height, width) of the content.

    The rest of the square is 255 in the label and the mean colour in the image (black for
    pad-floor8, as in PFENet's code).
    """
    box = content_box(image.shape[0], image.shape[1], size, mode)
    return fit_image(image, size, mode), fit_label(label, size, mode), box


def fit_image(image: Pixels, size: int, mode: Mode) -> Pixels:
    """[H, W, 3] -> [S, S, 3], bilinear; shrinking averages pixels, as in Pillow.

    pad-floor8 always interpolates between four neighbours, as OpenCV does.
    """
    height, width = content_box(image.shape[0], image.shape[1], size, mode)
    content = image
    if (height, width) != image.shape[:2]:
        content = _resized(image, height, width, antialias=mode != "pad-floor8")
    if mode == "original" or (height, width) == (size, size):
        return content
    result = np.empty((size, size, 3), dtype=np.uint8)
    result.reshape(size, -1)[:] = 0 if mode == "pad-floor8" else np.tile(FILL, size)
    result[:height, :width] = content
    return result


def fit_label(label: Label, size: int, mode: Mode) -> Label:
    """[H, W] -> [S, S], nearest neighbour; 255 outside the content."""
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
