"""MM-Net's memory of meta-classes, propagation of activations, and weighting of shots.

Source   Wu et al., "Learning Meta-class Memory for Few-Shot Semantic Segmentation", ICCV 2021;
         "Eq. 1" below is equation 1 there.
Shapes   i images, b episodes, k shots, m meta-classes, d = 256 channels of a memory, h x w feature
         cells; q query cells, s support cells.
"""

from typing import Literal

import torch
from torch import Tensor, einsum, nn

from fssplat.methods.layers.matching import EPS

CHANNELS = 256  # d
Values = Literal["activations", "products"]  # after the sigmoid of Eq. 1, or before it


class Memory(nn.Module):
    """Meta-class embeddings M^1..M^N and the two convolutions before them (MMM).

    With `size` 0 there are only the convolutions, of `kernel` x `kernel` cells.
    """

    def __init__(self, channels_in: int, size: int, kernel: int = 3) -> None:
        super().__init__()
        self.read_query = read_features(channels_in, kernel)
        self.read_support = read_features(channels_in, kernel)
        if size:
            # [1, d, m] with deviation 1, as in the authors' code; the paper does not say.
            self.embeddings = nn.Parameter(torch.randn(1, CHANNELS, size))

    def products(self, features: Tensor) -> Tensor:
        """F^T M in Eq. 1, before the sigmoid: [i, d, h, w] -> [i, m, h, w]."""
        return einsum("idhw,dm->imhw", features, self.embeddings[0])

    def reconstruction(self, features: Tensor, values: Values = "activations") -> Tensor:
        """Eqs. 10 to 12: cross-entropy of matching cells to rebuilt cells: [i, d, h, w] -> [].

        The softmax of each original cell runs over all rebuilt cells.
        """
        products = self.products(features)
        chosen = (products.sigmoid() if values == "activations" else products).softmax(dim=1)
        rebuilt = einsum("imhw,dm->idhw", chosen, self.embeddings[0]).flatten(2)  # Eq. 11
        cells = features.flatten(2)
        correlation = einsum("idx,idy->ixy", rebuilt, cells)  # Eq. 12
        return (correlation.logsumexp(dim=1) - (rebuilt * cells).sum(dim=1)).mean()


def read_features(channels_in: int, kernel: int) -> nn.Sequential:
    """The convolution to F: [i, channels_in, h, w] -> [i, d, h, w]."""
    return nn.Sequential(
        nn.Conv2d(channels_in, CHANNELS, kernel, padding=kernel // 2, bias=False),
        nn.ReLU(),
        nn.Dropout2d(0.5),
    )


def similarities(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    """Eq. 2 times the mask; the lowest number outside of it.

    [b, m, h, w], [b, m, h, w], mask [b, h, w] in 0..1 -> e [b, q, s]. A cell whose similarity is
    exactly 0 counts as outside, as in the authors' code.
    """
    q, s = query.flatten(2), support.flatten(2)
    norms = einsum("bq,bs->bqs", q.norm(dim=1), s.norm(dim=1))
    cosine = einsum("bmq,bms->bqs", q, s) / (norms + EPS)
    masked = cosine * mask.flatten(1).unsqueeze(1)
    # Not minus infinity: if every cell is outside, the softmax gives each of them the same weight.
    return masked.masked_fill(masked == 0, torch.finfo(masked.dtype).min)


def matched(similarity: Tensor, support: Tensor, grid: tuple[int, int]) -> Tensor:
    """APM, Eqs. 3 and 4: e [b, q, s], activations [b, m, h', w'] -> v [b, m, *grid]."""
    found = einsum("bqs,bms->bmq", similarity.softmax(dim=2), support.flatten(2))
    return found.reshape(*found.shape[:2], *grid)


def quality(similarity: Tensor, grid: tuple[int, int], mean: bool = False) -> Tensor:
    """Eq. 9: e [b, q, s] -> p [b, *grid], a sum over the cells of the object, or their mean."""
    found = similarity.sigmoid().sum(dim=2)
    if mean:
        inside = similarity > torch.finfo(similarity.dtype).min
        found = found / inside.sum(dim=2).clamp(min=1)
    return found.reshape(-1, *grid)


def fuse_by_quality(activations: Tensor, qualities: Tensor) -> Tensor:
    """QMM: [b, k, m, h, w], [b, k, h, w] -> [b, m, h, w], weights by softmax over shots."""
    return einsum("bkmhw,bkhw->bmhw", activations, qualities.softmax(dim=1))
