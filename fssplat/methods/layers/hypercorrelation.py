"""Head of HSNet: correlations of many blocks, squeezed by centre-pivot 4D convolutions.

Source   Min et al., ICCV 2021, arXiv 2104.01538.
Shapes   b episodes, m maps (blocks) or c channels, h x w query cells, h' x w' support cells.
Memory   The layers keep channels last, [b, h, w, h', w', c], so that convolutions over planes of
         either grid and the norms read memory in its order.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, einsum, nn
from torch.nn import functional as F

from fssplat.methods.base import resize


def correlations(
    query: Tensor, support: Tensor, widths: Sequence[int], inside: Tensor | None = None
) -> Tensor:
    """Positive parts of the products of unit features, one map per block of `widths` channels.

    [b, sum of widths, h, w], [b, sum of widths, h', w'] -> [b, m, h, w, h', w']. In memory m comes
    after h and w, so that the convolution over the support axes reads it without a copy. With the
    output of `cells_inside` only the products with these cells are computed.
    """
    (b, _, *grid), (*_, rows, columns) = query.shape, support.shape
    q, s = query.flatten(2), support.flatten(2)
    if inside is None:
        found = products(q, s, widths)
    else:
        found = products_inside(q, s, widths, inside.flatten(1))
    return found.view(b, *grid, len(widths), rows, columns).permute(0, 3, 1, 2, 4, 5)


def cells_inside(support: Tensor) -> Tensor | None:
    """[b, c, h', w'] -> bool [b, h', w']: cells whose features are not all 0.

    None on a GPU, which would have to wait for the number of cells.
    """
    if support.device.type != "cpu":
        return None
    return support.detach().abs().amax(dim=1) > 0


def products(query: Tensor, support: Tensor, widths: Sequence[int]) -> Tensor:
    """[b, c, q], [b, c, s] -> positive part of the products, [b, q, m, s]."""
    found = query.new_empty(len(query), query.shape[2], len(widths), support.shape[2])
    for number, pair in enumerate(_blocks(query, support, widths)):
        found[:, :, number] = einsum("bcq,bcs->bqs", *pair).clamp_(min=0)
    return found


def products_inside(
    query: Tensor, support: Tensor, widths: Sequence[int], inside: Tensor
) -> Tensor:
    """The same as `products`, computed only for the support cells `inside`, bool [b, s]."""
    found = query.new_zeros(len(query), query.shape[2], len(widths), support.shape[2])
    for maps, q, s, cells in zip(found, query, support, inside, strict=True):
        chosen = cells.nonzero().squeeze(1)
        kept = s.t().index_select(0, chosen).t()  # rows of a transposed map are copied whole
        for number, pair in enumerate(_blocks(q, kept, widths)):
            values = einsum("cq,cs->qs", *pair).clamp_(min=0)
            maps[:, number].index_copy_(1, chosen, values.to(maps.dtype))
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

    def forward(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """[b, c, h, w, h', w'] -> [b, channels, h, w, h' / stride, w' / stride], rounded up.

        If x is 0 at all support cells but `inside`, bool [b, h', w'], only a box around these cells
        is convolved: elsewhere the result is the bias. The kernel must be less than 2 strides wide.
        """
        x = channels_last(x)
        if inside is None:
            return channels_first((self._over_support(x) + self._over_query(x)).contiguous())
        assert self.query.bias is not None
        assert self.support.bias is not None
        sides = [_span(inside.any(dim=axis).any(dim=0), self.support) for axis in (2, 1)]
        cells, results = zip(*sides, strict=True)
        part = x[:, :, :, cells[0], cells[1]]
        part = self._over_support(part) + self._over_query(part)
        outside = (self.query.bias + self.support.bias).to(part)
        grid = [-(-side // self.stride) for side in x.shape[3:5]]
        found = outside.expand(*x.shape[:3], *grid, -1).clone()
        found[:, :, :, results[0], results[1]] = part
        return channels_first(found)

    def _over_query(self, x: Tensor) -> Tensor:
        pivots = x[:, :, :, :: self.stride, :: self.stride].permute(0, 3, 4, 1, 2, 5)
        found = _convolve(self.query, pivots.flatten(0, 2).permute(0, 3, 1, 2))
        found = found.permute(0, 2, 3, 1)
        return found.view(*pivots.shape[:3], *found.shape[1:]).permute(0, 3, 4, 1, 2, 5)

    def _over_support(self, x: Tensor) -> Tensor:
        """On a grid of 2 x 2 cells or fewer a 3 x 3 convolution is one matrix product."""
        rows, columns, _ = x.shape[3:]
        bias = self.support.bias
        assert bias is not None
        if max(rows, columns) <= 2 and self.support.kernel_size[0] == 3 and self.stride == 1:
            matrix = small_grid_matrix(self.support.weight, rows, columns)
            flat = F.linear(x.flatten(3), matrix, bias.repeat(rows * columns))
            return flat.view(*x.shape[:5], -1)
        found = _convolve(self.support, x.flatten(0, 2).permute(0, 3, 1, 2))
        found = found.permute(0, 2, 3, 1)
        return found.view(*x.shape[:3], *found.shape[1:])


def _span(inside: Tensor, convolution: nn.Conv2d) -> tuple[slice, slice]:
    """bool [cells] of one axis -> the cells to convolve, and the results that these give.

    The first cell is a multiple of the stride; every result that sees a cell `inside` is included.
    """
    stride, reach = convolution.stride[0], convolution.kernel_size[0] // 2
    at = inside.nonzero()
    first, last = (int(at[0]), int(at[-1])) if len(at) else (0, 0)
    start = first // stride
    stop = min((last + reach) // stride, (len(inside) - 1) // stride)
    return slice(start * stride, max(last, stop * stride) + 1), slice(start, stop + 1)


def channels_last(x: Tensor) -> Tensor:
    """[b, c, h, w, h', w'] -> [b, h, w, h', w', c], a view."""
    return x.permute(0, 2, 3, 4, 5, 1)


def channels_first(x: Tensor) -> Tensor:
    """[b, h, w, h', w', c] -> [b, c, h, w, h', w'], a view."""
    return x.permute(0, 5, 1, 2, 3, 4)


def small_grid_matrix(weight: Tensor, rows: int, columns: int) -> Tensor:
    """A 3 x 3 convolution with padding 1 on a grid of at most 2 x 2 cells, as a matrix.

    [c', c, 3, 3] -> [cells * c', cells * c] with `rows * columns` cells, channels last.
    """
    parts = [
        weight[:, :, 1 - row : 1 - row + rows, 1 - column : 1 - column + columns]
        for row in range(rows)
        for column in range(columns)
    ]
    return torch.cat([part.permute(0, 2, 3, 1).flatten(1) for part in parts])


def _convolve(convolution: nn.Conv2d, planes: Tensor) -> Tensor:
    """Apply the convolution; in float32 if a plane is no wider than the stride (65 px images).

    On such planes the bfloat16 weight gradient of the CPU (oneDNN under torch 2.15) does not write
    the taps that see only padding, so their gradient would be uninitialised memory.
    """
    thin = min(planes.shape[-2:]) <= convolution.stride[0]
    weight = convolution.weight
    if planes.is_contiguous():  # a weight in another order would have the planes copied into it
        weight = weight.contiguous()
    with torch.autocast(planes.device.type, enabled=False) if thin else nullcontext():
        return F.conv2d(
            planes.float() if thin else planes, weight, convolution.bias,
            convolution.stride, convolution.padding,
        )  # fmt: skip


class BuildingBlock(nn.Sequential):
    """Centre-pivot convolution, GroupNorm of 4 groups and ReLU, three times."""

    def __init__(
        self,
        channels_in: int,
        widths: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        layers: list[nn.Module] = []
        for width, kernel, stride in zip(widths, kernels, strides, strict=True):
            layers += [CentrePivot(channels_in, width, kernel, stride), nn.GroupNorm(4, width)]
            layers.append(nn.ReLU(inplace=True))
            channels_in = width
        super().__init__(*layers)

    def forward(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """[b, c, h, w, h', w'] -> [b, last width, h, w, smaller h', smaller w'].

        `inside` as in `CentrePivot`.
        """
        first, *others = self
        x = first(x, inside)
        for layer in others:
            x = _normed(layer, x) if isinstance(layer, nn.GroupNorm) else layer(x)
        return x


def _normed(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Apply the norm over all four grid axes without leaving the channels-last order.

    In float32 it is written out: PyTorch's CPU kernel for this order adds 400,000 rows one by one,
    which costs three digits (torch 2.15).
    """
    last = channels_last(x)
    if x.dtype == torch.float32:
        return channels_first(_group_norm(norm, last.flatten(1, 4)).view(last.shape))
    planes = last.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    with torch.autocast(x.device.type, enabled=False):  # it would widen x to float32
        weight, bias = norm.weight.to(x), norm.bias.to(x)
        planes = F.group_norm(planes, norm.num_groups, weight, bias, norm.eps)
    return channels_first(planes.permute(0, 2, 3, 1).reshape(last.shape))


def _group_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """The norm of [b, cells, c] over cells and the channels of a group, in two passes."""
    width = x.shape[2] // norm.num_groups
    mean = _group_mean(x, width)
    variance = _group_mean((x - mean).square(), width)
    scale = torch.rsqrt(variance + norm.eps) * norm.weight
    return torch.addcmul(norm.bias - mean * scale, x, scale)


def _group_mean(x: Tensor, width: int) -> Tensor:
    """[b, cells, c] -> [b, 1, c]: the mean over cells and over groups of `width` channels."""
    means = x.mean(dim=1, keepdim=True).view(len(x), 1, -1, width).mean(dim=3)
    return means.repeat_interleave(width, dim=2)


class Squeeze(nn.Module):
    """Three levels of correlations, deepest first -> logits on twice the grid of the last."""

    WIDTHS = (16, 64, 128)
    KERNELS = ((3, 3, 3), (5, 3, 3), (5, 5, 3))
    STRIDES = ((2, 2, 2), (4, 2, 2), (4, 4, 2))

    def __init__(self, maps: Sequence[int]) -> None:
        super().__init__()
        shapes = zip(maps, self.KERNELS, self.STRIDES, strict=True)
        self.encoders = nn.ModuleList(
            BuildingBlock(count, self.WIDTHS, kernels, strides)
            for count, kernels, strides in shapes
        )
        width = self.WIDTHS[-1]
        self.mixers = nn.ModuleList(
            BuildingBlock(width, (width,) * 3, (3, 3, 3), (1, 1, 1)) for _ in maps[1:]
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width // 2, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Conv2d(width // 2, width // 2, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width // 2, 2, 3, padding=1),
        )  # fmt: skip

    def forward(self, levels: Sequence[Tensor], inside: Sequence[Tensor | None] = ()) -> Tensor:
        """[b, m, h, w, h', w'] per level -> [b, 2, 2h, 2w] of the shallowest level.

        `inside` has the output of `cells_inside` for each level.
        """
        encoded = [
            encoder(level, cells)
            for encoder, level, cells in zip(
                self.encoders, levels, inside or [None] * len(levels), strict=True
            )
        ]
        mixed = encoded[0]
        for mixer, squeezed in zip(self.mixers, encoded[1:], strict=True):
            mixed = mixer(squeezed + resized_4d(mixed, squeezed.shape[2:]))
        x = self.decoder(mixed.mean(dim=(4, 5)))
        logits: Tensor = self.classifier(resize(x, (2 * x.shape[-2], 2 * x.shape[-1])))
        return logits


def resized_4d(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Resize the query axes; the support axes too if the squeezed grids differ."""
    x = _resized_query(x, sizes[:2])
    if x.shape[-2:] == tuple(sizes[2:]):
        return x
    swapped = x.permute(0, 1, 4, 5, 2, 3)
    return _resized_query(swapped, sizes[2:]).permute(0, 1, 4, 5, 2, 3)


def _resized_query(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """[b, c, h, w, h', w'] -> the same with h and w changed to `sizes`."""
    last = channels_last(x)
    planes = last.flatten(3).permute(0, 3, 1, 2)
    resized = resize(planes, (sizes[0], sizes[1])).permute(0, 2, 3, 1)
    return channels_first(resized.reshape(*resized.shape[:3], *last.shape[3:]))
