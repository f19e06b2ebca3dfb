"""Strong random changes of colour and sharpness, and the ImageNet normalisation.

Source   SimCLR (Chen et al., ICML 2020, appendix A), cited by MiningFSS: colour distortion of
         strength 1 with probability 0.8, grey with 0.2, blur with 0.5.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fssplat.data.transforms import DEVIATION, MEAN

KERNEL = 13  # pixels; SimCLR uses a tenth of the side, but weights beyond 3 sigma = 6 are near 0


@dataclass(frozen=True)
class Distortion:
    """The changes to one image; None means no change of that kind."""

    colour: tuple[float, float, float, float] | None  # brightness, contrast, saturation, hue
    order: tuple[int, ...]  # of the four colour changes
    grey: bool
    blur: float | None  # standard deviation, pixels


def draw_distortion(draw: np.random.Generator) -> Distortion:
    """Draw the distortion of one image, always with the same number of random draws."""
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


def distort(image: Tensor, distortion: Distortion) -> Tensor:
    """Apply a distortion: float32 [3, H, W] in 0..1 -> float32 [3, H, W] in 0..1."""
    # Imported here, because it takes over a second and most commands do not need it.
    from torchvision.transforms.v2 import functional as images

    if distortion.colour is not None:
        changes = (
            images.adjust_brightness, images.adjust_contrast,
            images.adjust_saturation, images.adjust_hue,
        )  # fmt: skip
        for number in distortion.order:
            image = changes[number](image, distortion.colour[number])
    if distortion.grey:
        image = images.rgb_to_grayscale(image, num_output_channels=3)
    if distortion.blur is not None:
        image = images.gaussian_blur(image, [KERNEL, KERNEL], [distortion.blur, distortion.blur])
    return image


def normalised(image: Tensor) -> Tensor:
    """[..., 3, H, W] in 0..1 -> minus the mean of ImageNet, divided by its deviation."""
    mean = torch.tensor(MEAN, device=image.device).view(3, 1, 1)
    deviation = torch.tensor(DEVIATION, device=image.device).view(3, 1, 1)
    return (image - mean) / deviation
