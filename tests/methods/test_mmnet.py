"""MM-Net against slow loops written from its equations."""

import math

import pytest
import torch
from torch import Tensor

from fssplat.common.errors import InputError
from fssplat.methods.layers.matching import best_match, masked_mean
from fssplat.methods.mmnet import Memory, MMNet, fuse_by_quality, propagate, propagate_mean
from tests.fakes.method_inputs import (
    BaseImages,
    FourStageBackbone,
    MemoryArtefacts,
    check_finite,
    random_episodes,
)


def network(**switches: object) -> MMNet:
    torch.manual_seed(0)
    options = MMNet.Options(**{"bins": (6, 4), "embeddings": 5, **switches})
    built = MMNet(FourStageBackbone(MMNet.backbone_layout("tiny", options)), options)
    built.prepare(BaseImages(), MemoryArtefacts())
    return built


# ------------------------------------------------------------------ equations


def cosine(left: Tensor, right: Tensor) -> float:
    return float(left @ right / (left.norm() * right.norm() + 1e-7))


def slow_propagation(query: Tensor, support: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Eqs. 2 to 5 and 9 for one image: [m, q], [m, s], [s] -> [m, q], [q]."""
    fused, quality = torch.zeros_like(query), torch.zeros(query.shape[1])
    for q in range(query.shape[1]):
        inside = [s for s in range(len(mask)) if mask[s] > 0]
        similar = [cosine(query[:, q], support[:, s]) * float(mask[s]) for s in inside]
        total = sum(math.exp(e) for e in similar)
        for s, e in zip(inside, similar, strict=True):
            fused[:, q] += query[:, q] * support[:, s] * (math.exp(e) / total)
            quality[q] += 1 / (1 + math.exp(-e))
    return fused, quality


@pytest.mark.parametrize("kind", ["binary", "soft", "empty", "full"])
def test_propagation_is_the_loop_over_query_and_support_cells(kind: str) -> None:
    draw = torch.Generator().manual_seed(3)
    query, support = torch.rand(2, 2, 4, 3, 2, generator=draw)
    soft = torch.rand(2, 3, 2, generator=draw)
    masks = {"binary": (soft > 0.5).float(), "soft": soft, "empty": soft * 0, "full": soft * 0 + 1}
    fused, quality = propagate(query, support, masks[kind])
    for image in range(2):
        expected, quality_expected = slow_propagation(
            query[image].flatten(1), support[image].flatten(1), masks[kind][image].flatten()
        )
        torch.testing.assert_close(fused[image].flatten(1), expected)
        torch.testing.assert_close(quality[image].flatten(), quality_expected)


def test_shots_are_weighted_per_cell_by_a_softmax_over_their_quality() -> None:
    activations, quality = torch.rand(1, 5, 2, 3, 3), torch.rand(1, 5, 3, 3)
    found = fuse_by_quality(activations, quality)
    for row in range(3):
        for column in range(3):
            powers = [math.exp(float(quality[0, k, row, column])) for k in range(5)]
            expected = sum(
                activations[0, k, :, row, column] * powers[k] / sum(powers) for k in range(5)
            )
            torch.testing.assert_close(found[0, :, row, column], expected)


def test_global_propagation_multiplies_by_the_mean_activation_of_the_object() -> None:
    query, support = torch.rand(2, 1, 4, 3, 3)
    mask = torch.zeros(1, 3, 3)
    mask[0, 0, 0] = mask[0, 1, 2] = 1
    mean = (support[0, :, 0, 0] + support[0, :, 1, 2]) / 2.0005
    found, _ = propagate_mean(query, support, mask)
    torch.testing.assert_close(found[0], query[0] * mean[:, None, None])


def test_the_activations_of_a_memory_are_the_sigmoid_of_each_product() -> None:
    memory = Memory(7, 4)
    features = torch.randn(1, 256, 2, 2)
    found = memory.activations(features)
    expected = 1 / (1 + math.exp(-float((features[0, :, 1, 0] @ memory.embeddings[3]).detach())))
    assert float(found[0, 3, 1, 0]) == pytest.approx(expected, abs=1e-6)


def test_the_reconstruction_loss_is_the_cross_entropy_of_the_diagonal() -> None:
    torch.manual_seed(4)
    memory = Memory(7, 4)
    features = torch.randn(2, 256, 2, 3) * 0.1
    losses = []
    for image in range(2):
        cells = features[image].flatten(1).T  # [x, d]
        rebuilt = []
        for cell in cells:
            act = torch.stack([torch.sigmoid(cell @ embedding) for embedding in memory.embeddings])
            powers = act.exp()
            rebuilt.append(
                sum(p / powers.sum() * m for p, m in zip(powers, memory.embeddings, strict=True))
            )
        for x, own in enumerate(rebuilt):
            row = torch.stack([own @ cell for cell in cells])
            losses.append(-(row[x] - row.exp().sum().log()))
    torch.testing.assert_close(memory.reconstruction(features), torch.stack(losses).mean())


def test_the_confidence_of_a_cell_is_its_best_match_between_0_and_1() -> None:
    query, support = torch.rand(2, 1, 5, 2, 3)
    support[0, :, 0] = 0
    found = best_match(query, support)[0].flatten()
    cells, others = query[0].flatten(1).T, support[0].flatten(1).T
    best = torch.tensor([max(cosine(cell, other) for other in others) for cell in cells])
    expected = (best - best.min()) / (best.max() - best.min() + 1e-7)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert best_match(query, support * 0).abs().max() == 0


def test_the_mean_under_an_empty_mask_is_zero() -> None:
    assert masked_mean(torch.rand(1, 3, 2, 2), torch.zeros(1, 2, 2)).abs().max() == 0


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
        {"embeddings": 20},
        {"nodes": "none"},
        {"nodes": "features"},
        {"levels": "3"},
        {"levels": "2,3"},
        {"propagation": "global"},
        {"reconstruct": "none"},
        {"reconstruct": "query"},
        {"reconstruct": "both"},
        {"quality": False},
        {"confidence": False},
        {"ckmm": True},
        {"ckmm": True, "nodes": "none", "confidence": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("k", [1, 5])
def test_every_row_of_tables_3_to_7_trains(switches: dict[str, object], k: int) -> None:
    built = network(**switches)
    batch = random_episodes(k=k)
    losses = built.training_losses(batch)
    assert ("reconstruction" in losses) == (
        built.options.nodes == "memory" and built.options.reconstruct != "none"
    )
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for name, parameter in built.learnable().items():
        assert parameter.grad is not None, name
    assert built.eval()(batch.query, batch.supports, batch.masks).shape == (2, 2, 41, 41)


def test_there_are_two_memories_if_levels_are_separate() -> None:
    assert [len(list(network(levels=levels).memories)) for levels in ("2+3", "2,3", "3")] == [
        1,
        2,
        1,
    ]


def test_an_empty_support_has_less_weight_if_quality_is_on() -> None:
    built = network().eval()
    batch = random_episodes(k=5, values=(0, 1))
    empty = batch.masks.clone()
    empty[:, :, 1:] = 0  # an empty mask has quality 0, far below the one that is left
    few = built(batch.query, batch.supports, empty)
    average = network(quality=False).eval()
    assert (few - average(batch.query, batch.supports, empty)).abs().max() > 1e-4


def test_the_order_of_supports_does_not_matter() -> None:
    built = network().eval()
    batch = random_episodes(k=5)
    swapped = torch.tensor([3, 0, 4, 1, 2])
    one = built(batch.query, batch.supports, batch.masks)
    other = built(batch.query, batch.supports[:, :, swapped], batch.masks[:, :, swapped])
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_two_classes_at_once_are_refused() -> None:
    batch = random_episodes(n=2)
    with pytest.raises(InputError, match="one class per episode, not 2"):
        network()(batch.query, batch.supports, batch.masks)


def test_a_network_with_nothing_to_decode_is_refused() -> None:
    with pytest.raises(ValueError, match="the decoder has no input"):
        MMNet.Options(nodes="none", confidence=False)


def test_the_training_size_is_that_of_table_1() -> None:
    sizes = {
        name: MMNet.recipe("pascal-5i", name)["size"]
        for name in ("vgg16", "resnet50", "resnet50_v2")
    }
    assert sizes == {"vgg16": 321, "resnet50": 321, "resnet50_v2": 473}
