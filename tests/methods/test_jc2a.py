"""JC2A against slow loops written from its equations."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.common.errors import InputError
from fssplat.methods.jc2a import (
    JC2A,
    HybridAlignment,
    build_attention,
    combine,
    cut_blocks,
    fullest_blocks,
    pick_blocks,
)
from fssplat.methods.layers.base_prototypes import ObjectMap, class_prototypes
from tests.fakes.method_inputs import (
    BaseImages,
    FourStageBackbone,
    MemoryArtefacts,
    check_finite,
    random_episodes,
)

SMALL = {"bins": (6, 4), "top": (3, 2), "block_sides": (2, 3)}


def network(**switches: object) -> JC2A:
    torch.manual_seed(0)
    options = JC2A.Options(**{**SMALL, **switches})
    built = JC2A(FourStageBackbone(JC2A.backbone_layout("tiny", options)), options)
    built.prepare(BaseImages(), MemoryArtefacts())
    return built


# ------------------------------------------------------------------ equations


def test_blocks_are_cut_row_by_row_and_padded_with_zeros() -> None:
    features = torch.arange(1.0, 16.0).view(1, 1, 3, 5)
    parts = cut_blocks(features, 2)
    assert parts.shape == (1, 1, 6, 4)
    assert parts[0, 0, 0].tolist() == [1, 2, 6, 7]
    assert parts[0, 0, 2].tolist() == [5, 0, 10, 0]
    assert parts[0, 0, 5].tolist() == [15, 0, 0, 0]


@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["random", "empty", "full"])
def test_the_kept_blocks_are_those_with_most_mask(side: int, kind: str) -> None:
    mask = {"random": torch.rand(2, 7, 5), "empty": torch.zeros(2, 7, 5)}.get(
        kind, torch.ones(2, 7, 5)
    )
    count = 4
    chosen = fullest_blocks(mask, side, count)
    columns = math.ceil(5 / side)
    for image in range(2):
        coverage = []
        for block in range(math.ceil(7 / side) * columns):
            top, left = block // columns * side, block % columns * side
            inside = mask[image, top : top + side, left : left + side]
            coverage.append(float(inside.sum()) / side**2)
        expected = sorted(range(len(coverage)), key=lambda i: -coverage[i])[:count]
        got = chosen[image].tolist()
        assert [round(coverage[i], 5) for i in got] == [round(coverage[i], 5) for i in expected]
        if kind == "empty":
            assert got == expected  # ties in reading order


def test_all_blocks_are_kept_if_there_are_fewer_than_requested() -> None:
    assert sorted(fullest_blocks(torch.rand(1, 4, 4), 2, 60)[0].tolist()) == [0, 1, 2, 3]


def slow_attention(kind: str, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """[c, q], [c, n, j], [c, n, j] -> [c, q], one number at a time."""
    c, q = query.shape
    n, j = keys.shape[1:]
    out = torch.zeros(c, q, dtype=query.dtype)
    for cell in range(q):
        for inner in range(j):
            if kind in ("relu-linear", "normal-linear"):
                for to in range(c):
                    for via in range(c):
                        share = keys[via, :, inner].softmax(dim=0)
                        found = (share * values[to, :, inner]).sum()
                        out[to, cell] += query[via, cell] * found / c
            else:
                scores = torch.stack(
                    [score(kind, query[:, cell], keys[:, i, inner]) for i in range(n)]
                )
                weights = scores.softmax(dim=0) if kind == "normal" else scores / n
                out[:, cell] += (values[:, :, inner] * weights).sum(dim=1)
    return out / j


def score(kind: str, query: Tensor, key: Tensor) -> Tensor:
    product = query @ key
    if kind == "normal":
        return product / math.sqrt(len(query))
    return product / (query.norm() * key.norm()).clamp(min=1e-12)


@pytest.mark.parametrize("kind", ["normal", "normal-linear", "cosine", "relu-linear"])
@pytest.mark.parametrize("cells", [1, 4])
def test_attention_is_the_sum_in_its_equation(kind: str, cells: int) -> None:
    draw = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, 5, generator=draw, dtype=torch.float64)
    keys, values = torch.randn(2, 2, 3, 4, cells, generator=draw, dtype=torch.float64)
    layer = build_attention(kind, 3)  # type: ignore[arg-type]
    if isinstance(layer, torch.nn.Module):
        layer.double()
    activated = query
    if kind == "relu-linear":
        activated = query.clamp(min=0)
    if kind == "normal-linear":
        mean, var = query.mean(dim=(0, 2)), query.var(dim=(0, 2), correction=0)
        activated = (query - mean[:, None]) / (var[:, None] + 1e-5).sqrt()
    expected = torch.stack(
        [slow_attention(kind, activated[i], keys[i], values[i]) for i in range(2)]
    )
    torch.testing.assert_close(layer(query, keys, values), expected)


@pytest.mark.parametrize("position", [True, False])
def test_point_to_block_is_the_loop_over_kept_blocks(position: bool) -> None:
    torch.manual_seed(2)
    options = JC2A.Options(bins=(5,), top=(2,), block_sides=(2,), p2p=False, position=position)
    align = HybridAlignment(3, options).double()
    query, support = torch.randn(2, 1, 3, 5, 5, dtype=torch.float64)
    mask = torch.rand(1, 5, 5, dtype=torch.float64)
    p_q, p_s = align.positions[0] if position else torch.zeros(2, 5, 5, dtype=torch.float64)
    w_q, w_k, w_s, w_v = (
        layer.weight.squeeze(2) for layer in (align.query, align.key, align.block_key, align.value)
    )
    padded = F.pad(support + p_s, (0, 1, 0, 1))[0]
    blocks = [
        padded[:, row * 2 : row * 2 + 2, column * 2 : column * 2 + 2].reshape(3, 4)
        for row in range(3)
        for column in range(3)
    ]
    kept = torch.stack([blocks[i] for i in fullest_blocks(mask, 2, 2)[0]], dim=1)  # [c, k, j]
    keys = torch.einsum("dc,ckj->dkj", w_s @ w_k, kept)
    values = torch.einsum("dc,ckj->dkj", w_v, kept)
    queries = (w_q @ (query + p_q)[0].flatten(1)).clamp(min=0)
    expected = slow_attention("relu-linear", queries, keys, values).view(1, 3, 5, 5)
    torch.testing.assert_close(align(0, query, support, mask), expected)


def test_an_empty_support_aligns_to_nothing_point_by_point() -> None:
    options = JC2A.Options(**SMALL, p2b=False)
    align = HybridAlignment(3, options)
    found = align(0, torch.randn(1, 3, 6, 6), torch.zeros(1, 3, 6, 6), torch.zeros(1, 6, 6))
    assert found.abs().max() == 0


@pytest.mark.parametrize(("how", "channels"), [("add", 3), ("multiply", 3), ("concat", 4)])
def test_two_maps_are_combined_as_table_6_says(how: str, channels: int) -> None:
    left, right = torch.rand(1, 3, 2, 2), torch.rand(1, 1, 2, 2)
    found = combine(left, right, how)  # type: ignore[arg-type]
    assert found.shape[1] == channels
    expected = {"add": left + right, "multiply": left * right}.get(how, torch.cat([left, right], 1))
    assert torch.equal(found, expected)


def test_the_picked_blocks_keep_their_order() -> None:
    parts = torch.arange(12.0).view(1, 1, 4, 3)
    assert pick_blocks(parts, torch.tensor([[2, 0]]))[0, 0, :, 0].tolist() == [6, 0]


# ------------------------------------------------------------------ class-agnostic map


def test_base_prototypes_are_the_mean_over_objects_of_the_mean_under_each_mask() -> None:
    source = BaseImages()

    def features(images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 8, ceil_mode=True)  # [i, 3, 6, 6]

    found = class_prototypes(features, source, torch.device("cpu"))
    expected = []
    for class_id in (3, 7):  # no image shows class 9
        objects = []
        for image, label in zip(source.images, source.labels, strict=True):
            mask = (label == class_id).float()
            if mask.sum() == 0:
                continue
            small = F.interpolate(
                mask[None, None], size=(6, 6), mode="bilinear", align_corners=True
            )
            maps = features(image[None])
            objects.append((maps * small).sum(dim=(0, 2, 3)) / small.sum())
        expected.append(torch.stack(objects).mean(dim=0))
    torch.testing.assert_close(found, torch.stack(expected))


def test_the_object_map_is_the_mean_product_with_every_prototype_between_0_and_1() -> None:
    objects = ObjectMap(3)
    prototypes = torch.rand(4, 3)
    objects.prototype.copy_(prototypes.mean(dim=0))
    features = torch.rand(2, 3, 5, 6)
    slow = sum(torch.einsum("c,ichw->ihw", row, features) for row in prototypes) / 4
    assert isinstance(slow, Tensor)
    for found, raw in zip(objects(features), slow, strict=True):
        torch.testing.assert_close(found, (raw - raw.min()) / (raw.max() - raw.min() + 1e-7))


def test_prototypes_are_computed_once_for_each_data_and_backbone() -> None:
    kept, source = MemoryArtefacts(), BaseImages()
    torch.manual_seed(0)
    options = JC2A.Options(**SMALL)
    first = JC2A(FourStageBackbone(JC2A.backbone_layout("", options)), options)
    first.prepare(source, kept)
    first.prepare(source, kept)
    assert len(kept.kept) == 1
    second = JC2A(
        FourStageBackbone(JC2A.backbone_layout("", options)), options
    )  # other random weights
    second.prepare(source, kept)
    assert len(kept.kept) == 2


def test_without_prototypes_every_logit_is_nan_rather_than_wrong() -> None:
    options = JC2A.Options(**SMALL)
    torch.manual_seed(0)
    built = JC2A(FourStageBackbone(JC2A.backbone_layout("", options)), options).eval()
    batch = random_episodes()
    assert built(batch.query, batch.supports, batch.masks).isnan().any()


# ------------------------------------------------------------------ the network


@pytest.mark.parametrize("values", [(0, 1, 255), (0,), (255,), (1,)])
@pytest.mark.parametrize("k", [1, 5])
def test_losses_and_gradients_are_finite_whatever_the_masks(
    values: tuple[int, ...], k: int
) -> None:
    check_finite(network(), random_episodes(k=k, values=values))


@pytest.mark.parametrize(
    "switches",
    [
        {"p2p": False, "p2b": False, "ckmm": False},
        {"p2p": False, "p2b": False},
        {"p2b": False},
        {"p2p": False},
        {"hybrid": "multiply"},
        {"hybrid": "concat"},
        {"aggregation": "add"},
        {"aggregation": "multiply"},
        {"attention": "normal"},
        {"attention": "normal-linear"},
        {"attention": "cosine"},
        {"position": False},
    ],
    ids=str,
)
def test_every_row_of_tables_3_to_6_trains(switches: dict[str, object]) -> None:
    built = network(**switches)
    batch = random_episodes()
    losses = built.training_losses(batch)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for name, parameter in built.learnable().items():
        assert parameter.grad is not None, name
    assert built.eval()(batch.query, batch.supports, batch.masks).shape == (2, 2, 41, 41)


def test_five_shots_are_the_mean_of_the_five_predicted_masks() -> None:
    built = network().eval()
    batch = random_episodes(k=5, values=(0, 1))
    together = built(batch.query, batch.supports, batch.masks).softmax(dim=1)
    apart = [
        built(batch.query, batch.supports[:, :, [k]], batch.masks[:, :, [k]]).softmax(dim=1)
        for k in range(5)
    ]
    torch.testing.assert_close(together, torch.stack(apart).mean(dim=0), atol=1e-5, rtol=1e-4)


def test_two_classes_at_once_are_refused() -> None:
    batch = random_episodes(n=2)
    with pytest.raises(InputError, match="one class per episode, not 2"):
        network()(batch.query, batch.supports, batch.masks)


def test_levels_and_block_settings_must_agree() -> None:
    with pytest.raises(InputError, match="one entry per pyramid level"):
        network(top=(1, 2, 3))


# ------------------------------------------------------------------ Table 3's sizes

PRINTED = {  # millions of parameters
    (False, False, False): 34.09,
    (True, False, False): 34.52,
    (False, True, False): 34.61,
    (True, True, False): 34.61,
    (False, False, True): 34.11,
    (True, True, True): 34.64,
}


class Wide(FourStageBackbone):
    """The channels of ResNet-50, none of its weights."""

    channels = (256, 512, 1024, 2048)


def size(p2p: bool, p2b: bool, ckmm: bool) -> float:
    """Learnable parameters in millions, and the 15 base prototypes as the paper seems to count."""
    with torch.device("meta"):
        options = JC2A.Options(p2p=p2p, p2b=p2b, ckmm=ckmm)
        built = JC2A(Wide(JC2A.backbone_layout("resnet50", options)), options)
    return (sum(p.numel() for p in built.learnable().values()) + ckmm * 15 * 1536) / 1e6


def test_the_sizes_of_table_3_differ_as_printed() -> None:
    sizes = {row: size(*row) for row in PRINTED}
    for row, one in sizes.items():
        for other_row, other in sizes.items():
            printed = PRINTED[row] - PRINTED[other_row]
            assert one - other == pytest.approx(printed, abs=0.05), (row, other_row)


def test_the_baseline_with_a_whole_deep_stem_resnet50_has_the_printed_size() -> None:
    whole = 23_631_808 / 1e6  # with the last stage, which the method never reads
    assert size(False, False, False) + whole == pytest.approx(34.09, abs=0.05)


def test_binary_masks_of_shots_are_averaged_if_asked() -> None:
    batch = random_episodes(k=3)
    soft, binary = network().eval(), network(shot_masks="binary").eval()
    assert (soft.shot_fusion, binary.shot_fusion) == ("mean-mask", "mean-binary")
    shots = [soft(batch.query, batch.supports[:, :, [k]], batch.masks[:, :, [k]]) for k in range(3)]
    votes = torch.stack([one.argmax(dim=1) for one in shots]).float().mean(dim=0)
    found = binary(batch.query, batch.supports, batch.masks)
    assert torch.equal(found.argmax(dim=1), (votes > 0.5).long())
