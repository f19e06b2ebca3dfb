"""What several methods compute between a support and a query.

Shapes   b episodes, c channels, h x w feature cells; masks are 0..1 on the feature grid.
"""

import torch
from torch import Tensor, einsum
from torch.nn import functional as F

from fssplat.backbones import Features
from fssplat.methods.base import resize

EPS = 1e-7


def grid_mask(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """[i, H, W] with 1 object and 255 ignored -> [i, h, w] in 0..1, bilinear; 255 is background."""
    return resize((masks == 1).float().unsqueeze(1), grid).squeeze(1)


def masked_mean(features: Tensor, mask: Tensor, eps: float = 5e-4) -> Tensor:
    """[i, c, h, w], [i, h, w] -> mean feature under the mask [i, c]; zero where it is empty."""
    total = einsum("ichw,ihw->ic", features, mask)
    return total / (mask.sum(dim=(1, 2)).unsqueeze(1) + eps)


def best_match(query: Tensor, support: Tensor) -> Tensor:
    """Highest cosine similarity of each query cell with any support cell, scaled to 0..1.

    [i, c, h, w], [i, c, h', w'] zero outside the object -> [i, h, w]; all 0 for an empty support.
    """
    q, s = query.flatten(2), support.flatten(2)
    norms = einsum("iq,is->iqs", q.norm(dim=1), s.norm(dim=1))
    cosine = einsum("icq,ics->iqs", q, s) / (norms + EPS)
    return scaled(cosine.amax(dim=2)).view(len(query), *query.shape[-2:])


def scaled(values: Tensor) -> Tensor:
    """[i, n] -> the same between 0 and 1, each row by its own smallest and largest value."""
    low, high = values.aminmax(dim=1, keepdim=True)
    return (values - low) / (high - low + EPS)


def middle_features(features: Features) -> Tensor:
    """Stages 3 and 2 side by side on stage 3's grid, as PFENet reads them: [i, c3 + c2, h, w]."""
    third = features.stages[2]
    second = resize(features.stages[1], (third.shape[-2], third.shape[-1]))
    return torch.cat([third, second], dim=1)


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of [b, p, h, w] enlarged to [b, H, W]; 0 where every pixel is ignored."""
    enlarged = resize(logits, (target.shape[-2], target.shape[-1]))
    total = F.cross_entropy(enlarged, target, ignore_index=255, reduction="sum")
    return total / (target != 255).sum().clamp(min=1)
