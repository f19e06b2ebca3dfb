"""Class prototypes and their cosine with every position, as in PANet and MiningFSS.

Shapes   c channels, h x w feature cells, H x W pixels of a mask, p prototypes; "..." any
         leading axes.

Both papers enlarge the features to the size of the mask before averaging. Here the enlarged map is
not built: each feature cell is weighted by its share in the interpolated pixels under the mask.
That is the same sum in another order, and needs H x W numbers instead of c x H x W.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, einsum, nn
from torch.nn import functional as F


def mean_under_mask(features: Tensor, mask: Tensor) -> Tensor:
    """Mean of features, enlarged to the size of the mask, over the pixels where the mask is true.

    [..., c, h, w], bool [..., H, W] -> float32 [..., c]; zero if the mask is empty.
    """
    with torch.autocast(features.device.type, enabled=False):
        inside = mask.to(torch.float32)
        rows = corner_weights(mask.shape[-2], features.shape[-2], mask.device)
        columns = corner_weights(mask.shape[-1], features.shape[-1], mask.device)
        weights = rows.T @ inside @ columns
        total = einsum("...chw,...hw->...c", features.float(), weights)
        return total / inside.sum(dim=(-2, -1)).clamp(min=1).unsqueeze(-1)


def corner_weights(fine: int, coarse: int, device: torch.device) -> Tensor:
    """Share of each of `coarse` cells in each of `fine` pixels, bilinear with aligned corners.

    Returns [fine, coarse]; each row sums to 1.
    """
    step = (coarse - 1) / (fine - 1) if fine > 1 else 0.0
    places = torch.arange(fine, device=device, dtype=torch.float64) * step
    cells = torch.arange(coarse, device=device, dtype=torch.float64)
    return (1 - (places.unsqueeze(1) - cells).abs()).clamp(min=0).float()


def cosine_scores(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every position with every prototype: [b, c, h, w], [b, p, c] -> [b, p, h, w].

    Always in float32, since the methods multiply the result by a scale before softmax. A zero
    prototype scores 0 everywhere.
    """
    with torch.autocast(features.device.type, enabled=False):
        places = F.normalize(features.float(), dim=1)
        return einsum("bchw,bpc->bphw", places, F.normalize(prototypes.float(), dim=2))


# ------------------------------------------------------------------ of SD-AANet


@dataclass(frozen=True)
class Guide:
    """Prototypes and channel weights of the supports: [b, n, k, c] each."""

    prototypes: Tensor  # p_s of Eq. 2
    weights: Tensor  # (v_s + 1) / 2 of Eq. 3, one factor per channel

    @property
    def scaled(self) -> Tensor:
        """p'_s: the prototype of the scaled feature, equal to the scaled prototype."""
        return self.prototypes * self.weights


def channel_weights(channels: int) -> nn.Sequential:
    """v_s: [i, c, 1, 1] -> [i, c, 1, 1] between 0 and 1; a quarter of the channels inside."""
    return nn.Sequential(
        nn.Conv2d(channels, channels // 4, 1),
        nn.ReLU(),
        nn.Conv2d(channels // 4, channels, 1),
        nn.Sigmoid(),
    )


def prototype_mlp(ways: int, channels: int) -> nn.Sequential:
    """MLP of Algorithm 1: the concatenated prototypes of all ways [b, n c] -> [b, c]."""
    return nn.Sequential(
        nn.Linear(ways * channels, channels), nn.ReLU(), nn.Linear(channels, channels)
    )
