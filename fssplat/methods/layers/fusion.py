"""Fusion of K segmentations of one query, for methods that use one support at a time.

Shapes   k shots, p classes with background first, H x W pixels.
"""

import torch
from torch import Tensor

from fssplat.methods.base import Fusion


def fuse_shots(logits: Tensor, fusion: Fusion) -> Tensor:
    """[k, p, H, W] -> labels int64 [H, W]; with one shot the argmax for any fusion."""
    if len(logits) == 1:
        return labels(logits)[0]
    return {"vote": vote, "mean-mask": mean_mask, "mean-binary": mean_binary}[fusion](logits)


def vote(logits: Tensor) -> Tensor:
    """Fusion of HSNet: a pixel needs half of the votes of the pixel with most votes of that class.

    [k, p, H, W] -> [H, W]. If several classes have enough, the one with the larger share wins.
    """
    classes = torch.arange(1, logits.shape[1], device=logits.device)
    counts = (labels(logits).unsqueeze(-1) == classes).sum(dim=0)  # [H, W, p - 1]
    shares = counts / counts.amax(dim=(0, 1)).clamp(min=1)
    share, way = shares.max(dim=2)
    return torch.where(share >= 0.5, way + 1, 0)


def mean_mask(logits: Tensor) -> Tensor:
    """Fusion of JC2A: the mean of the predicted soft masks. [k, p, H, W] -> [H, W]."""
    return labels(logits.softmax(dim=1).mean(dim=0, keepdim=True))[0]


def mean_binary(logits: Tensor) -> Tensor:
    """The mean of the predicted binary masks: the class of most shots. [k, p, H, W] -> [H, W].

    If two classes have as many, the background or the first class wins.
    """
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    return labels((labels(logits).unsqueeze(1) == classes).float().mean(dim=0, keepdim=True))[0]


def labels(scores: Tensor) -> Tensor:
    """The class with the highest score, the first if equal: [i, p, H, W] -> int64 [i, H, W].

    Two classes are compared directly: on a CPU `argmax` over a short axis takes ten times as long.
    """
    if scores.shape[1] == 2:
        return (scores[:, 1] > scores[:, 0]).long()
    return scores.argmax(dim=1)
