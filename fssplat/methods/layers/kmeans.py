"""K-means with seeded k-means++ starts, the same on every machine for the same points.

Sources  Lloyd, IEEE Trans. Inf. Theory 1982; Arthur and Vassilvitskii, SODA 2007.
Shapes   n points, c coordinates, k centres.
"""

import torch
from torch import Tensor

ITERATIONS = 300  # at most; assignments settle long before


def kmeans(points: Tensor, k: int, seed: int = 0) -> Tensor:
    """[n, c] -> centres [k, c].

    Fewer distinct points than `k` give some centre twice. A centre without points stays put.
    """
    assert len(points), "no point to group"
    centres = spread_out(points, k, torch.Generator().manual_seed(seed))
    assigned: Tensor | None = None
    for _ in range(ITERATIONS):
        nearest = nearest_centre(points, centres)
        if assigned is not None and torch.equal(nearest, assigned):
            break
        assigned = nearest
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=k).unsqueeze(1)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def nearest_centre(points: Tensor, centres: Tensor) -> Tensor:
    """[n, c], [k, c] -> number of the nearest centre [n], the first of equals."""
    return torch.cdist(points, centres).argmin(dim=1)


def spread_out(points: Tensor, k: int, draw: torch.Generator) -> Tensor:
    """k-means++: each next start is a point drawn by its squared distance to those chosen."""
    chosen = [int(torch.randint(len(points), (), generator=draw))]
    distance = torch.cdist(points, points[chosen]).square().squeeze(1).double().cpu()
    while len(chosen) < k:
        total = distance.cumsum(dim=0)
        at = torch.rand((), generator=draw, dtype=torch.float64) * total[-1]
        chosen.append(min(int(torch.searchsorted(total, at, right=True)), len(points) - 1))
        new = torch.cdist(points, points[chosen[-1:]]).square().squeeze(1).double().cpu()
        distance = torch.minimum(distance, new)
    return points[chosen].clone()
