"""Strong changes of colour and sharpness, drawn per image and applied where the images lie.

Source   SimCLR (Chen et al., ICML 2020, appendix A), which MiningFSS names: colour distortion of
         strength 1 with probability 0.8, grey with 0.2, blur with 0.5.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fssplat.data.transforms import DEVIATION, MEAN

KERNEL = 13  # pixels; SimCLR takes a tenth of the side, but weights past 3 sigma = 6 vanish


@dataclass(frozen=True)
class Distortion:
    """What happens to one image; None leaves that part alone."""

    colour: tuple[float, float, float, float] | None  # brightness, contrast, saturation, hue
    order: tuple[int, ...]  # in which the four are applied
    grey: bool
    blur: float | None  # standard deviation, pixels


def draw_distortion(draw: np.random.Generator) -> Distortion:
    """One image's distortion; takes the same number of draws whatever comes out."""
    chances = draw.random(3)
    factors = draw.uniform(0.2, 1.8, size=3)
    hue = draw.uniform(-0.2, 0.2)
    order = draw.permutation(4)
    sigma = draw.uniform(0.1, 2.0)
    return Distortion(
        colour=(*map(float, factors), float(hue)) if chances[0] < 0.8 else None,  # type: ignore[arg-type]
        order=tuple(map(int, order)),
        grey=bool(chances[1] < 0.2),
        blur=float(sigma) if chances[2] < 0.5 else None,
    )


def distort(image: Tensor, by: Distortion) -> Tensor:
    """float32 [3, H, W] in 0..1 -> the same range."""
    # Here, because it takes over a second to import and most commands distort nothing.
    from torchvision.transforms.v2 import functional as images

    if by.colour is not None:
        changes = (
            images.adjust_brightness, images.adjust_contrast,
            images.adjust_saturation, images.adjust_hue,
        )  # fmt: skip
        for number in by.order:
            image = changes[number](image, by.colour[number])
    if by.grey:
        image = images.rgb_to_grayscale(image, num_output_channels=3)
    if by.blur is not None:
        image = images.gaussian_blur(image, [KERNEL, KERNEL], [by.blur, by.blur])
    return image


def normalised(image: Tensor) -> Tensor:
    """[..., 3, H, W] in 0..1 -> by ImageNet's mean and deviation."""
    mean = torch.tensor(MEAN, device=image.device).view(3, 1, 1)
    deviation = torch.tensor(DEVIATION, device=image.device).view(3, 1, 1)
    return (image - mean) / deviation
