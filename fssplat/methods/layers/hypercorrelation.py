"""Head of HSNet: correlations of many blocks, squeezed by centre-pivot 4D convolutions.

Source   Min et al., ICCV 2021, arXiv 2104.01538.
Shapes   b episodes, m maps (blocks) or c channels, h x w query cells, h' x w' support cells.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, einsum, nn

from fssplat.methods.base import resize


def correlations(query: Tensor, support: Tensor, widths: Sequence[int]) -> Tensor:
    """Positive parts of the products of unit features, one map per block of `widths` channels.

    [b, sum of widths, h, w], [b, sum of widths, h', w'] -> [b, m, h, w, h', w']. In memory m comes
    after h and w, so that the convolution over the support axes reads it without a copy.
    """
    (b, _, *grid), (*_, rows, columns) = query.shape, support.shape
    q, s = query.flatten(2), support.flatten(2)
    # Leaving cells out is faster on the CPU; on a GPU the host would wait for their number.
    found = products_inside(q, s, widths) if q.device.type == "cpu" else products(q, s, widths)
    return found.view(b, *grid, len(widths), rows, columns).permute(0, 3, 1, 2, 4, 5)


def products(query: Tensor, support: Tensor, widths: Sequence[int]) -> Tensor:
    """[b, c, q], [b, c, s] -> positive part of the products, [b, q, m, s]."""
    found = query.new_empty(len(query), query.shape[2], len(widths), support.shape[2])
    for number, pair in enumerate(_blocks(query, support, widths)):
        found[:, :, number] = einsum("bcq,bcs->bqs", *pair).clamp_(min=0)
    return found


def products_inside(query: Tensor, support: Tensor, widths: Sequence[int]) -> Tensor:
    """The same as `products`, computed only for support cells that are not 0."""
    found = query.new_zeros(len(query), query.shape[2], len(widths), support.shape[2])
    for maps, q, s in zip(found, query, support, strict=True):
        inside = (s.abs().amax(dim=0) > 0).nonzero().squeeze(1)
        for number, pair in enumerate(_blocks(q, s[:, inside], widths)):
            values = einsum("cq,cs->qs", *pair).clamp_(min=0)
            maps[:, number].index_copy_(1, inside, values.to(maps.dtype))
    return found


def spread(maps: Tensor, widths: Sequence[int]) -> Tensor:
    """Repeat the map of each block for all its channels: [i, m, h, w] -> [i, sum of c, h, w]."""
    parts = zip(torch.split(maps, 1, dim=1), widths, strict=True)
    return torch.cat([part.expand(-1, width, -1, -1) for part, width in parts], dim=1)


def _blocks(
    query: Tensor, support: Tensor, widths: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the features of each block; blocks are concatenated along the axis before the last."""
    sizes = list(widths)
    yield from zip(torch.split(query, sizes, -2), torch.split(support, sizes, -2), strict=True)


class CentrePivot(nn.Module):
    """A 4D convolution reduced to two 2D convolutions, over query and over support cells."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride  # along the support axes
        self.query = nn.Conv2d(channels_in, channels, kernel, 1, kernel // 2)
        self.support = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c, h, w, h', w'] -> [b, channels, h, w, h' / stride, w' / stride], rounded up."""
        b, _, h, w, _, _ = x.shape
        pivots = x[..., :: self.stride, :: self.stride]
        p, r = pivots.shape[-2:]
        planes = pivots.permute(0, 4, 5, 1, 2, 3).flatten(0, 2)
        over_query = _convolve(self.query, planes)
        over_query = over_query.view(b, p, r, *over_query.shape[1:]).permute(0, 3, 4, 5, 1, 2)
        planes = x.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        over_support = _convolve(self.support, planes)
        over_support = over_support.view(b, h, w, *over_support.shape[1:]).permute(0, 3, 1, 2, 4, 5)
        found: Tensor = over_query + over_support
        return found


def _convolve(convolution: nn.Conv2d, planes: Tensor) -> Tensor:
    """Apply the convolution; in float32 if a plane is no wider than the stride (65 px images).

    On such planes the bfloat16 weight gradient of the CPU (oneDNN under torch 2.15) does not write
    the taps that see only padding, so their gradient would be uninitialised memory.
    """
    thin = min(planes.shape[-2:]) <= convolution.stride[0]
    with torch.autocast(planes.device.type, enabled=False) if thin else nullcontext():
        found: Tensor = convolution(planes.float() if thin else planes)
    return found


def building_block(
    channels_in: int, widths: Sequence[int], kernels: Sequence[int], strides: Sequence[int]
) -> nn.Sequential:
    """Centre-pivot convolution, GroupNorm of 4 groups and ReLU, three times."""
    layers: list[nn.Module] = []
    for width, kernel, stride in zip(widths, kernels, strides, strict=True):
        layers += [CentrePivot(channels_in, width, kernel, stride), nn.GroupNorm(4, width)]
        layers.append(nn.ReLU(inplace=True))
        channels_in = width
    return nn.Sequential(*layers)


class Squeeze(nn.Module):
    """Three levels of correlations, deepest first -> logits on twice the grid of the last."""

    WIDTHS = (16, 64, 128)
    KERNELS = ((3, 3, 3), (5, 3, 3), (5, 5, 3))
    STRIDES = ((2, 2, 2), (4, 2, 2), (4, 4, 2))

    def __init__(self, maps: Sequence[int]) -> None:
        super().__init__()
        shapes = zip(maps, self.KERNELS, self.STRIDES, strict=True)
        self.encoders = nn.ModuleList(
            building_block(count, self.WIDTHS, kernels, strides)
            for count, kernels, strides in shapes
        )
        width = self.WIDTHS[-1]
        self.mixers = nn.ModuleList(
            building_block(width, (width,) * 3, (3, 3, 3), (1, 1, 1)) for _ in maps[1:]
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width // 2, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Conv2d(width // 2, width // 2, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width // 2, 2, 3, padding=1),
        )  # fmt: skip

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """[b, m, h, w, h', w'] per level -> [b, 2, 2h, 2w] of the shallowest level."""
        mixed = self.encoders[0](levels[0])
        for encoder, mixer, level in zip(self.encoders[1:], self.mixers, levels[1:], strict=True):
            squeezed = encoder(level)
            mixed = mixer(squeezed + resized_4d(mixed, squeezed.shape[2:]))
        x = self.decoder(mixed.mean(dim=(4, 5)))
        logits: Tensor = self.classifier(resize(x, (2 * x.shape[-2], 2 * x.shape[-1])))
        return logits


def resized_4d(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Resize the query axes; the support axes too if the squeezed grids differ."""
    x = _resized_query(x, sizes)
    if x.shape[-2:] == tuple(sizes[2:]):
        return x
    swapped = x.permute(0, 1, 4, 5, 2, 3)
    return _resized_query(swapped, sizes[2:]).permute(0, 1, 4, 5, 2, 3)


def _resized_query(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """[b, c, h, w, h', w'] -> the same with h and w changed to the first two sizes."""
    b, c, h, w, p, r = x.shape
    planes = x.permute(0, 4, 5, 1, 2, 3).reshape(b * p * r, c, h, w)
    resized = resize(planes, (sizes[0], sizes[1]))
    return resized.view(b, p, r, c, sizes[0], sizes[1]).permute(0, 3, 4, 5, 1, 2)
