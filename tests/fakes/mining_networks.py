"""Small MiningFSS networks, and a backbone of pixel means."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.methods.mining import MiningFSS
from tests.fakes.method_inputs import (
    BaseImages,
    FourStageBackbone,
    MemoryArtefacts,
)


def network(seed: int = 0, **options: Any) -> MiningFSS:
    torch.manual_seed(seed)
    chosen = MiningFSS.Options(pseudo_per_pair=2, **options)
    return MiningFSS(FourStageBackbone(MiningFSS.backbone_layout("tiny", chosen)), chosen)


def prepared(artefacts: MemoryArtefacts | None = None, **options: Any) -> MiningFSS:
    built = network(**options)
    built.prepare(BaseImages(), artefacts or MemoryArtefacts())
    return built


def cell_means(image: Tensor) -> Tensor:
    """A fake backbone: uint8 [3, H, W] -> means of 4 x 4 pixels [3, h, w]."""
    return F.avg_pool2d(image.float()[None] / 255 - 0.5, 4)[0]
