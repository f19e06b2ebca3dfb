"""The one contract of a feature extractor: images in, the output of every stage out."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class BackboneLayout:
    """How a method wants its backbone built; the values of the public code are per method."""

    stages: int = 4  # how many stages to build and run
    output_stride: Literal[8, 16, 32] = 32  # 8: the last two stages keep stage 2's grid, dilated
    dilate_first: bool = True  # the first block of a dilated stage is dilated as well
    last_relu: bool = True  # False: the very last ReLU is left out
    blocks: bool = False  # also give the output of every block before its last ReLU
    ceil_pools: bool = True  # VGG's pools round a size up (PFENet); False: down (HSNet)
    dilate_vgg: bool = False  # VGG's fourth pool keeps its grid, the group after is dilated (PANet)
    frozen: bool = True  # no gradient; eval mode, unless batch_statistics
    batch_statistics: bool = False  # BatchNorm normalises by the batch and its buffers drift


@dataclass(frozen=True)
class Features:
    """Stage outputs [b, channels, h, w], shallow first; block outputs per stage where asked for."""

    stages: tuple[Tensor, ...]
    blocks: tuple[tuple[Tensor, ...], ...] = ()


class Backbone(nn.Module):
    """A stack of stages. `channels` and `strides` have one entry per stage."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    block_channels: tuple[tuple[int, ...], ...]  # per stage, one entry per block output

    def __init__(self, layout: BackboneLayout) -> None:
        super().__init__()
        self.layout = layout

    @property
    def batch_statistics(self) -> bool:
        return self.layout.batch_statistics

    @abstractmethod
    def features(self, images: Tensor, upto: int) -> Features:
        """Outputs of stages 1 to `upto`."""

    @abstractmethod
    def stage(self, index: int, x: Tensor) -> Tensor:
        """One stage (1-based) applied to the output of the one before it; gradients as given."""

    def forward(self, images: Tensor, upto: int = 0) -> Features:
        """float32 [b, 3, H, W], normalised -> stage outputs; `upto` 0 runs every built stage."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.layout.frozen):
            return self.features(images, upto or self.layout.stages)

    def freeze(self) -> None:
        """Take out of training what the layout keeps fixed; called once the weights are in.

        A trained backbone keeps its BatchNorm fixed, affine terms included, unless it normalises
        by the batch (as MiningFSS trains).
        """
        if self.layout.frozen:
            self.requires_grad_(False)
        elif not self.layout.batch_statistics:
            for norm in self._norms():
                norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Fixed statistics stay in eval mode, whatever the head does."""
        super().train(mode and (not self.layout.frozen or self.layout.batch_statistics))
        if not self.layout.batch_statistics:
            for norm in self._norms():
                norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, BATCH_NORMS)]
