"""The multi-scale decoder of PFENet (its feature enrichment module), used by four methods.

Source   Tian et al., "Prior Guided Feature Enrichment Network for Few-shot Segmentation",
         TPAMI 2020, arXiv 2008.01449.
Shapes   b episodes, c channels, h x w feature cells; one input per pyramid level.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fssplat.methods.base import Encoded, resize


class MultiScaleDecoder(nn.Module):
    """Per level: merge the inputs, add the previous level, refine; then combine all levels."""

    def __init__(
        self, channels_in: int, levels: int, classes: int = 2, channels: int = 256
    ) -> None:
        super().__init__()
        self.merge = nn.ModuleList([narrow(channels_in, channels) for _ in range(levels)])
        self.blend = nn.ModuleList([narrow(2 * channels, channels) for _ in range(levels - 1)])
        self.refine = nn.ModuleList([double(channels) for _ in range(levels)])
        self.level_heads = nn.ModuleList([head(channels, classes) for _ in range(levels)])
        self.gather = narrow(levels * channels, channels)
        self.polish = double(channels)
        self.head = head(channels, classes)

    def forward(
        self, inputs: Sequence[Tensor], grid: tuple[int, int]
    ) -> tuple[Tensor, list[Tensor]]:
        """[b, channels_in, *level size] per level -> logits on the grid, logits of each level."""
        enlarged: list[Tensor] = []
        logits: list[Tensor] = []
        for level, given in enumerate(inputs):
            x = self.merge[level](given)
            if level:
                before = resize(enlarged[-1], (x.shape[-2], x.shape[-1]))
                x = self.blend[level - 1](torch.cat([x, before], dim=1)) + x
            x = self.refine[level](x) + x
            logits.append(self.level_heads[level](x))
            enlarged.append(resize(x, grid))
        x = self.gather(torch.cat(enlarged, dim=1))
        return self.head(self.polish(x) + x), logits


def reduction(channels_in: int, channels: int) -> nn.Sequential:
    """Layers that reduce backbone features to the channels of the decoder."""
    return nn.Sequential(*narrow(channels_in, channels), nn.Dropout2d(0.5))


def level_sizes(bins: Sequence[float], grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of each level in cells; a bin up to 1 is a share of the grid."""
    return [
        (max(int(grid[0] * side), 1), max(int(grid[1] * side), 1))
        if side <= 1
        else (int(side), int(side))
        for side in bins
    ]


def narrow(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, bias=False), nn.ReLU())


def double(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.ReLU()]
    return nn.Sequential(*layers)


def head(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(channels, classes, 1),
    )


# ------------------------------------------------------------------ the same images at other sizes
#
# Their features are in one mapping: `feature` of the images as given, `feature@473`, ...


def sides_of(images: Tensor, longer: int) -> tuple[int, int]:
    """Height and width of images whose longer side is resized to `longer` pixels."""
    height, width = images.shape[-2:]
    factor = longer / max(height, width)
    return round(height * factor), round(width * factor)


def at_scale(encoded: Encoded, side: int) -> Encoded:
    """The tensors of one scale under their plain names."""
    mark = f"@{side}"
    return {name.removesuffix(mark): one for name, one in encoded.items() if name.endswith(mark)}


def for_each_scale(encoded: Encoded, compute: Callable[[Encoded], Encoded]) -> Encoded:
    """What `compute` returns for the images as given, and for each scale in `encoded`."""
    found = compute({name: one for name, one in encoded.items() if "@" not in name})
    for mark in dict.fromkeys(name.partition("@")[2] for name in encoded if "@" in name):
        of_scale = compute(at_scale(encoded, int(mark)))
        found |= {f"{name}@{mark}": one for name, one in of_scale.items()}
    return found
