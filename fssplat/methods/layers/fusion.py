"""How K segmentations of one query become one, for methods that see one support at a time.

Shapes   k shots, p classes with background first, H x W pixels.
"""

from typing import Literal

import torch
from torch import Tensor


def fuse_shots(logits: Tensor, fusion: Literal["vote", "mean-mask"]) -> Tensor:
    """[k, p, H, W] -> labels int64 [H, W]; with one shot the argmax, whatever the fusion."""
    if len(logits) == 1:
        return labels(logits)[0]
    return vote(logits) if fusion == "vote" else mean_mask(logits)


def vote(logits: Tensor) -> Tensor:
    """HSNet's: a class needs half as many votes as its most agreed pixel of the image has.

    [k, p, H, W] -> [H, W]. Of several such classes the one with the larger share wins.
    """
    classes = torch.arange(1, logits.shape[1], device=logits.device)
    counts = (labels(logits).unsqueeze(-1) == classes).sum(dim=0)  # [H, W, p - 1]
    shares = counts / counts.amax(dim=(0, 1)).clamp(min=1)
    share, way = shares.max(dim=2)
    return torch.where(share >= 0.5, way + 1, 0)


def mean_mask(logits: Tensor) -> Tensor:
    """JC2A's: the mean of the predicted soft masks. [k, p, H, W] -> [H, W]."""
    return labels(logits.softmax(dim=1).mean(dim=0, keepdim=True))[0]


def labels(scores: Tensor) -> Tensor:
    """The best class, [i, p, H, W] -> int64 [i, H, W]; the first of equals.

    For two classes a comparison does, at a tenth of what `argmax` over a short axis costs a CPU.
    """
    if scores.shape[1] == 2:
        return (scores[:, 1] > scores[:, 0]).long()
    return scores.argmax(dim=1)
