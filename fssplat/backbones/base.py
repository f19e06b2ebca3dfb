"""The interface of all backbones: images in, the outputs of every stage out."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class BackboneLayout:
    """How to build a backbone for a method."""

    stages: int = 4  # how many stages to build and run
    output_stride: Literal[8, 16, 32] = 32  # 8: the last two stages are dilated instead of strided
    dilate_first: bool = True  # the first block of a dilated stage is dilated as well
    last_relu: bool = True  # False: without the ReLU at the end of the last stage
    blocks: bool = False  # also return the output of every block before its last ReLU
    ceil_pools: bool = True  # VGG's pools round sizes up (PFENet); False: down (HSNet)
    dilate_vgg: bool = False  # VGG's fourth pool has stride 1, the last group is dilated (PANet)
    frozen: bool = True  # no gradient; eval mode, unless batch_statistics
    batch_statistics: bool = False  # BatchNorm uses batch statistics and updates its buffers


@dataclass(frozen=True)
class Features:
    """Stage outputs [b, channels, h, w], shallow first; block outputs per stage if requested."""

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
        """Apply one stage (from 1) to the previous output; gradients are not disabled."""

    def forward(self, images: Tensor, upto: int = 0) -> Features:
        """float32 [b, 3, H, W], normalised -> stage outputs; `upto` 0 runs every built stage."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.layout.frozen):
            return self.features(images, upto or self.layout.stages)

    def freeze(self) -> None:
        """Exclude from training what the layout keeps fixed. Call it after loading the weights.

        In a backbone that is trained, BatchNorm and its affine terms stay fixed, unless it uses
        batch statistics (as MiningFSS does).
        """
        if self.layout.frozen:
            self.requires_grad_(False)
        elif not self.layout.batch_statistics:
            for norm in self._norms():
                norm.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As in PyTorch, but parts with fixed statistics stay in eval mode."""
        super().train(mode and (not self.layout.frozen or self.layout.batch_statistics))
        if not self.layout.batch_statistics:
            for norm in self._norms():
                norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, BATCH_NORMS)]
