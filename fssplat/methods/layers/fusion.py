"""How K segmentations of one query become one, for methods that see one support at a time.

Shapes   k shots, p classes with background first, H x W pixels.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def fuse_shots(logits: Tensor, fusion: Literal["vote", "mean-mask"]) -> Tensor:
    """[k, p, H, W] -> labels int64 [H, W]; with one shot the argmax, whatever the fusion."""
    if len(logits) == 1:
        return logits[0].argmax(dim=0)
    return vote(logits) if fusion == "vote" else mean_mask(logits)


def vote(logits: Tensor) -> Tensor:
    """HSNet's: a class needs half as many votes as its most agreed pixel of the image has.

    [k, p, H, W] -> [H, W]. Of several such classes the one with the larger share wins.
    """
    counts = F.one_hot(logits.argmax(dim=1), logits.shape[1])[..., 1:].sum(dim=0)  # [H, W, p - 1]
    shares = counts / counts.amax(dim=(0, 1)).clamp(min=1)
    share, way = shares.max(dim=2)
    return torch.where(share >= 0.5, way + 1, 0)


def mean_mask(logits: Tensor) -> Tensor:
    """JC2A's: the mean of the predicted soft masks. [k, p, H, W] -> [H, W]."""
    return logits.softmax(dim=1).mean(dim=0).argmax(dim=0)
