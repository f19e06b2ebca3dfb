"""HSNet's correlations and 4D convolutions against slow loops, and the fusion of shots."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.common.errors import InputError
from fssplat.experiment.schema import BackboneSpec, MethodSpec
from fssplat.methods import build_method
from fssplat.methods.hsnet import EPS, HSNet
from fssplat.methods.layers.fusion import fuse_shots
from fssplat.methods.layers.hypercorrelation import (
    CentrePivot,
    Squeeze,
    cells_inside,
    correlations,
    products,
    products_inside,
    resized_4d,
)
from fssplat.methods.layers.matching import grid_mask
from tests.fakes.method_inputs import random_episodes


def network(backbone: str = "efficientnet_lite0") -> HSNet:
    torch.manual_seed(0)
    spec = BackboneSpec(name=backbone, weights="random")
    built = build_method(MethodSpec(name="hsnet"), spec).eval()
    assert isinstance(built, HSNet)
    return built


def test_masked_features_are_normalised_after_masking() -> None:
    built = network()
    batch = random_episodes(b=2, side=65)
    with torch.no_grad():
        encoded = built.encode(batch.query)
        found = built.encode_support(encoded, batch.query, batch.target)
        blocks = built.backbone(batch.query).blocks
    for level in (4, 3, 2):
        start = 0
        for maps in blocks[level - 1]:
            masked = maps * grid_mask(batch.target, maps.shape[-2:]).unsqueeze(1)
            wanted = masked / (masked.norm(dim=1, keepdim=True) + EPS)
            ours = found[f"level{level}"][:, start : start + maps.shape[1]]
            assert torch.allclose(ours, wanted, atol=1e-5)
            start += maps.shape[1]


@pytest.mark.parametrize("masked", ["all", "some", "none"])
def test_a_correlation_is_the_positive_part_of_a_product_of_cells(masked: str) -> None:
    widths = (3, 2)
    query, support = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 2, 3)
    if masked == "some":
        support[0, :, 0] = 0
    if masked == "none":
        support = torch.zeros_like(support)
    found = correlations(query, support, widths, cells_inside(support))
    assert found.shape == (2, 2, 3, 4, 2, 3)
    start = 0
    for m, width in enumerate(widths):
        part = slice(start, start + width)
        wanted = torch.einsum("bchw,bcyx->bhwyx", query[:, part], support[:, part]).clamp(min=0)
        assert torch.allclose(found[:, m], wanted, atol=1e-6)
        start += width


def test_products_are_the_same_with_and_without_the_cells_outside() -> None:
    query, support = torch.randn(2, 7, 9), torch.randn(2, 7, 6)
    support[0, :, :4] = 0
    inside = support.abs().amax(dim=1) > 0
    assert torch.allclose(
        products(query, support, (3, 4)), products_inside(query, support, (3, 4), inside), atol=1e-6
    )


@pytest.mark.parametrize("grid", [(7, 6), (2, 2), (1, 2), (1, 1)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 4)])
def test_a_centre_pivot_convolution_is_two_planes_of_a_4d_kernel(
    kernel: int, stride: int, grid: tuple[int, int]
) -> None:
    layer = CentrePivot(2, 3, kernel, stride)
    x = torch.randn(2, 2, 4, 5, *grid)
    found = layer(x)
    rows, columns = (-(-side // stride) for side in grid)
    assert found.shape == (2, 3, 4, 5, rows, columns)
    for y in range(rows):
        for z in range(columns):
            plane = layer.query(x[:, :, :, :, y * stride, z * stride])
            for i in range(4):
                for j in range(5):
                    other = layer.support(x[:, :, i, j])[:, :, y, z]
                    assert torch.allclose(
                        found[:, :, i, j, y, z], plane[:, :, i, j] + other, atol=1e-5
                    )


@pytest.mark.parametrize("box", [(0, 1, 0, 1), (3, 6, 2, 5), (6, 7, 0, 6), (2, 2, 2, 2)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 4)])
def test_a_convolution_of_the_cells_inside_is_that_of_all_cells(
    kernel: int, stride: int, box: tuple[int, int, int, int]
) -> None:
    layer = CentrePivot(2, 3, kernel, stride)
    inside = torch.zeros(2, 7, 6, dtype=torch.bool)
    inside[1, box[0] : box[1], box[2] : box[3]] = True
    x = torch.randn(2, 2, 4, 5, 7, 6) * inside[:, None, None, None]
    both = []
    for known in (inside, None):
        layer.zero_grad()
        found = layer(x, known)
        found.square().sum().backward()
        both.append((found, *(one.grad.clone() for one in layer.parameters())))
    for ours, wanted in zip(*both, strict=True):
        assert torch.allclose(ours, wanted, atol=1e-4)


@pytest.mark.parametrize(("side", "kernel", "stride"), [(1, 3, 1), (1, 3, 2), (3, 5, 4), (8, 3, 2)])
def test_a_bfloat16_gradient_is_that_of_float32_on_planes_of_any_width(
    side: int, kernel: int, stride: int
) -> None:
    layer = CentrePivot(16, 64, kernel, stride)
    x = torch.randn(1, 16, 2, 2, side, side)
    gradients = []
    for enabled in (False, True):
        layer.zero_grad()
        spoilt = [torch.full((size,), float("nan")) for size in (1024, 4096, 16384, 65536)]
        del spoilt  # what a kernel leaves unwritten is now a nan
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = layer(x).float().square().sum()
        loss.backward()
        gradients.append(layer.support.weight.grad.clone())
    exact, found = gradients
    assert torch.allclose(found, exact, atol=0.05 * float(exact.abs().max()))


def test_support_grids_of_unequal_size_are_brought_together() -> None:
    one = torch.randn(1, 4, 3, 3, 1, 1)
    spread = resized_4d(one, (6, 6, 2, 2))
    assert spread.shape == (1, 4, 6, 6, 2, 2)
    assert torch.equal(spread[..., 0, 0], spread[..., 1, 1])  # a single cell goes everywhere
    torch.manual_seed(0)
    squeeze = Squeeze((1, 1, 1))
    levels = [torch.rand(1, 1, g, g, g, g) for g in (8, 17, 34)]  # 272 pixels with VGG: 1 x 1
    assert squeeze(levels).shape == (1, 2, 68, 68)


def test_a_support_without_an_object_correlates_with_nothing() -> None:
    built = network()
    batch = random_episodes(b=1, side=65, values=(0, 255))
    with torch.no_grad():
        query, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
    for level in (4, 3, 2):
        assert not built._correlation(query, supports, level).any()


def test_several_shots_at_once_are_refused() -> None:
    batch = random_episodes(b=1, k=2, side=65)
    with pytest.raises(InputError, match="fused by vote"):
        network()(batch.query, batch.supports, batch.masks)


def test_an_ignored_pixel_counts_as_background_in_the_loss() -> None:
    built = network()
    batch = random_episodes(b=1, side=65)
    background = batch.target.masked_fill(batch.target == 255, 0)
    with torch.no_grad():
        query, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
        ours = built.losses(query, supports, batch.masks, batch.target)["segmentation"]
        logits = built.segment(query, supports, batch.masks, (65, 65))
    assert torch.allclose(ours, F.cross_entropy(logits, background), atol=1e-6)


# ------------------------------------------------------------------ shots


def shots(*foreground: list[list[int]]) -> Tensor:
    """Logits [k, 2, H, W] whose argmax is given."""
    labels = torch.tensor(foreground)
    return torch.stack([1.0 - labels, labels.float()], dim=1)


def test_a_pixel_needs_half_the_votes_of_the_most_agreed_one() -> None:
    votes = shots([[1, 0, 1]], [[1, 0, 0]], [[1, 1, 0]], [[1, 1, 0]], [[0, 0, 0]])
    # 4, 2 and 1 of 5 votes: divided by the largest, 4
    assert fuse_shots(votes, "vote").tolist() == [[1, 1, 0]]


def test_no_votes_at_all_leave_background() -> None:
    assert not fuse_shots(shots([[0, 0]], [[0, 0]]), "vote").any()


def test_of_two_classes_the_one_with_the_larger_share_wins() -> None:
    logits = torch.zeros(3, 3, 1, 2)
    logits[0, 1, 0, 0] = logits[1, 2, 0, 0] = logits[2, 2, 0, 0] = 1.0
    logits[:, 1, 0, 1] = 1.0  # class 1 has 3 votes somewhere, so 1 of 3 there is too few
    assert fuse_shots(logits, "vote").tolist() == [[2, 1]]


def test_soft_masks_are_averaged_not_logits() -> None:
    logits = torch.zeros(2, 2, 1, 1)
    logits[0, 1] = 10.0  # as good as certain
    logits[1, 0] = 11.0  # more so; a mean of logits would follow it alone
    half = fuse_shots(logits, "mean-mask")
    assert half.item() == int(torch.sigmoid(torch.tensor([10.0, -11.0])).mean() > 0.5)


def test_a_mean_of_binary_masks_counts_shots_not_how_certain_they_are() -> None:
    logits = torch.zeros(3, 2, 1, 1)
    logits[0, 1] = 10.0
    logits[1:, 0] = 0.1  # two shots say background, and are hardly certain
    assert fuse_shots(logits, "mean-mask").item() == 1
    assert fuse_shots(logits, "mean-binary").item() == 0
    logits[1, 1] = 0.2  # now one of the two says object
    assert fuse_shots(logits, "mean-binary").item() == 1
    assert fuse_shots(logits[1:], "mean-binary").item() == 0  # one of two is no majority
