"""Masked means, cosine matches between query and support, and the segmentation loss.

Shapes   b episodes, c channels, h x w feature cells; masks are 0..1 on the feature grid.
"""

import torch
from torch import Tensor, einsum
from torch.nn import functional as F

from fssplat.backbones import Backbone, Features
from fssplat.methods.base import resize

EPS = 1e-7


def grid_mask(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """[i, H, W] with 1 object and 255 ignored -> [i, h, w] in 0..1, bilinear; 255 is background."""
    return resize((masks == 1).float().unsqueeze(1), grid).squeeze(1)


def masked_mean(features: Tensor, mask: Tensor, eps: float = 5e-4) -> Tensor:
    """[i, c, h, w], [i, h, w] -> mean feature under the mask [i, c]; zero if it is empty."""
    total = einsum("ichw,ihw->ic", features, mask)
    return total / (mask.sum(dim=(1, 2)).unsqueeze(1) + eps)


def object_means(features: Tensor, masks: Tensor) -> Tensor:
    """Masked mean of each support: [b, n, k, c, h, w], [b, n, k, H, W] -> [b, n, k, c]."""
    flat = features.flatten(0, 2)
    mask = grid_mask(masks.flatten(0, 2), (flat.shape[-2], flat.shape[-1]))
    return masked_mean(flat, mask).reshape(*features.shape[:4])


def best_match(query: Tensor, support: Tensor) -> Tensor:
    """Highest cosine similarity of each query cell with any support cell, scaled to 0..1.

    [i, c, h, w], [i, c, h', w'] that is zero outside the object -> [i, h, w]; all 0 if the support
    is empty.
    """
    return mean_best_match(query, support.unsqueeze(1))


def mean_best_match(query: Tensor, supports: Tensor) -> Tensor:
    """Mean `best_match` over shots: [b, c, h, w], [b, k, c, h', w'] -> [b, h, w]."""
    q, s = F.normalize(query.flatten(2), dim=1), F.normalize(supports.flatten(3), dim=2)
    # Leaving cells out is faster on the CPU; on a GPU the host would wait for their number.
    best = best_cosine_inside(q, s) if q.device.type == "cpu" else best_cosine(q, s)
    return scaled(best.flatten(0, 1)).view(*s.shape[:2], *query.shape[-2:]).mean(dim=1)


def priors(query: Tensor, supports: Tensor) -> Tensor:
    """Prior of PFENet, mean over shots: [b, c, h, w], [b, n, k, c, h, w] -> [b, n, h, w]."""
    n, k = supports.shape[1:3]
    repeated = query.repeat_interleave(n * k, dim=0)
    found = best_match(repeated, supports.flatten(0, 2))
    return found.reshape(len(query), n, k, *found.shape[-2:]).mean(dim=2)


def best_cosine(query: Tensor, supports: Tensor) -> Tensor:
    """Unit features [b, c, q], [b, k, c, s] -> highest product of each query cell, [b, k, q]."""
    return einsum("bcq,bkcs->bkqs", query, supports).amax(dim=3)


def best_cosine_inside(query: Tensor, supports: Tensor) -> Tensor:
    """The same as `best_cosine`, from the cells of the object only: the others match with 0."""
    b, k = supports.shape[:2]
    rows = [_best_inside(query[i], supports[i, shot]) for i in range(b) for shot in range(k)]
    return torch.stack(rows).reshape(b, k, -1)


def _best_inside(query: Tensor, support: Tensor) -> Tensor:
    """[c, q], [c, s] -> [q]."""
    inside = support.abs().amax(dim=0) > 0
    if bool(inside.all()):
        return einsum("cq,cs->qs", query, support).amax(dim=1)
    if not bool(inside.any()):
        return query.new_zeros(query.shape[1])
    return einsum("cq,cs->qs", query, support[:, inside]).amax(dim=1).clamp(min=0)


@torch.no_grad()
def masked_stage(backbone: Backbone, third: Tensor, mask: Tensor | None) -> Tensor:
    """Stage 4 of a fixed backbone; its input and its output are multiplied by the mask.

    Output of stage 3 [i, c3, h, w], mask [i, h, w] in 0..1 or None -> [i, c4, h', w'].
    """
    if mask is None:
        return backbone.stage(4, third)
    high = backbone.stage(4, third * mask.unsqueeze(1))
    return high * resize(mask.unsqueeze(1), (high.shape[-2], high.shape[-1]))


def scaled(values: Tensor) -> Tensor:
    """Scale each row between 0 and 1 by its smallest and largest value: [i, n] -> [i, n]."""
    low, high = values.aminmax(dim=1, keepdim=True)
    return (values - low) / (high - low + EPS)


def middle_features(features: Features) -> Tensor:
    """Stages 3 and 2 concatenated on the grid of stage 3, as in PFENet: [i, c3 + c2, h, w]."""
    third = features.stages[2]
    second = resize(features.stages[1], (third.shape[-2], third.shape[-1]))
    return torch.cat([third, second], dim=1)


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of [b, p, h, w] enlarged to [b, H, W]; 0 if all pixels are ignored."""
    enlarged = resize(logits, (target.shape[-2], target.shape[-1]))
    total = F.cross_entropy(enlarged, target, ignore_index=255, reduction="sum")
    return total / (target != 255).sum().clamp(min=1)


def with_background(logits: Tensor) -> Tensor:
    """[b, n, h, w] -> [b, n + 1, h, w]: the background comes first, with logit 0."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
