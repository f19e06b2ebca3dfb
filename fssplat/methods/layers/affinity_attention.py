"""SD-AANet's supervised affinity attention (SAAM): a map of a class from its prototype.

Source   Zhao et al., "A Self-Distillation Embedded Supervised Affinity Attention Model for
         Few-Shot Segmentation"; the pyramid pooling is PSPNet's (Zhao et al., CVPR 2017).
Shapes   i images, b episodes, n ways, c channels, h x w feature cells.
"""

import torch
from torch import Tensor, nn

from fssplat.methods.base import resize


class AffinityAttention(nn.Module):
    """Pyramid pooling over a feature and its prototype; one head for queries, one for supports."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen = nn.Sequential(nn.Conv2d(2 * channels, 1024, 3, padding=1), nn.ReLU())
        self.pyramid = PyramidPooling(1024, channels)
        self.of_support = nn.Conv2d(channels, 2, 1)
        self.of_query = nn.Conv2d(channels, 1, 1)

    def forward(self, feature: Tensor, prototype: Tensor) -> Tensor:
        """[i, c, h, w], [i, c] -> [i, c, h, w]."""
        spread = prototype[:, :, None, None].expand_as(feature)
        found: Tensor = self.pyramid(self.widen(torch.cat([feature, spread], dim=1)))
        return found

    def query_map(self, feature: Tensor, prototypes: Tensor) -> Tensor:
        """[b, c, h, w], [b, n, c] -> attention [b, n, h, w], unbounded."""
        ways = prototypes.shape[1]
        shared = self(feature.repeat_interleave(ways, dim=0), prototypes.flatten(0, 1))
        found: Tensor = self.of_query(shared)
        return found.reshape(len(feature), ways, *feature.shape[-2:])

    def support_logits(self, feature: Tensor, prototype: Tensor) -> Tensor:
        """[i, c, h, w], [i, c] -> background and object [i, 2, h, w]."""
        found: Tensor = self.of_support(self(feature, prototype))
        return found


class PyramidPooling(nn.Module):
    """The feature itself, concatenated with its means over 1, 4, 9 and 36 regions (PSPNet)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [pooled_stage(side, channels_in, channels) for side in (1, 2, 3, 6)]
        )
        width = channels_in + len(self.stages) * channels
        self.merge = nn.Sequential(
            nn.Conv2d(width, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Dropout2d(0.1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[i, channels_in, h, w] -> [i, channels, h, w]."""
        size = (x.shape[-2], x.shape[-1])
        found: Tensor = self.merge(
            torch.cat([x, *(resize(s(x), size) for s in self.stages)], dim=1)
        )
        return found


def pooled_stage(side: int, channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(side),
        nn.Conv2d(channels_in, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
