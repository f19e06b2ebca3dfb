"""MM-Net against slow loops written from its equations."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fssplat.common.errors import InputError
from fssplat.data.batch import EpisodeBatch
from fssplat.methods.layers.matching import best_match, grid_mask, masked_mean
from fssplat.methods.layers.meta_classes import (
    Memory,
    fuse_by_quality,
    matched,
    quality,
    similarities,
)
from fssplat.methods.mmnet import MMNet
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


@pytest.mark.parametrize("kind", ["binary", "soft", "full"])
def test_propagation_is_the_loop_over_query_and_support_cells(kind: str) -> None:
    draw = torch.Generator().manual_seed(3)
    query, support = torch.rand(2, 2, 4, 3, 2, generator=draw)
    soft = torch.rand(2, 3, 2, generator=draw)
    masks = {"binary": (soft > 0.5).float(), "soft": soft, "full": soft * 0 + 1}
    similarity = similarities(query, support, masks[kind])
    fused = query * matched(similarity, support, (3, 2))
    found = quality(similarity, (3, 2))
    for image in range(2):
        cover = masks[kind][image].flatten()
        expected, quality_expected = slow_propagation(
            query[image].flatten(1), support[image].flatten(1), cover
        )
        torch.testing.assert_close(fused[image].flatten(1), expected)
        torch.testing.assert_close(found[image].flatten(), quality_expected)
        mean = quality(similarity, (3, 2), mean=True)[image].flatten()
        torch.testing.assert_close(mean, quality_expected / (cover > 0).sum())


def test_every_cell_of_an_empty_support_has_the_same_weight_and_no_quality() -> None:
    query, support = torch.rand(2, 1, 4, 3, 2)
    similarity = similarities(query, support, torch.zeros(1, 3, 2))
    average = support.mean(dim=(2, 3), keepdim=True).expand_as(support)
    torch.testing.assert_close(matched(similarity, support, (3, 2)), average)
    assert quality(similarity, (3, 2)).abs().max() == 0
    assert quality(similarity, (3, 2), mean=True).abs().max() == 0


def test_a_similarity_of_exactly_0_counts_as_outside_of_the_mask() -> None:
    query, support = torch.ones(1, 2, 1, 1), torch.ones(1, 2, 1, 3)
    support[:, :, :, 1] = 0
    found = matched(similarities(query, support, torch.ones(1, 1, 3)), support, (1, 1))
    assert found.flatten().tolist() == [1.0, 1.0]  # the mean over all three cells would be 2 / 3


def test_shots_are_weighted_per_cell_by_a_softmax_over_their_quality() -> None:
    activations, qualities = torch.rand(1, 5, 2, 3, 3), torch.rand(1, 5, 3, 3)
    found = fuse_by_quality(activations, qualities)
    for row in range(3):
        for column in range(3):
            powers = [math.exp(float(qualities[0, k, row, column])) for k in range(5)]
            expected = sum(
                activations[0, k, :, row, column] * powers[k] / sum(powers) for k in range(5)
            )
            torch.testing.assert_close(found[0, :, row, column], expected)


def test_global_propagation_multiplies_by_the_mean_activation_of_the_object() -> None:
    built = network(propagation="global").eval()
    batch = random_episodes(b=1, values=(0, 1))
    query, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
    memory = built.memories[0]
    assert isinstance(memory, Memory)
    ours = memory.products(query["f0"]).sigmoid()
    theirs = memory.products(supports["f0"][:, 0, 0]).sigmoid()
    mask = grid_mask(batch.masks[:, 0, 0], (theirs.shape[-2], theirs.shape[-1]))
    mean = (theirs * mask).sum(dim=(2, 3)) / (mask.sum() + 5e-4)
    found = built._activated(0, query, supports, batch.masks)
    torch.testing.assert_close(found, ours * mean[:, :, None, None])


def test_the_products_of_a_memory_are_those_of_each_embedding() -> None:
    memory = Memory(7, 4)
    features = torch.randn(1, 256, 2, 2)
    expected = (features[0, :, 1, 0] @ memory.embeddings[0, :, 3]).item()
    assert memory.products(features)[0, 3, 1, 0].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("values", ["activations", "products"])
def test_the_reconstruction_loss_matches_each_cell_with_all_rebuilt_cells(values: Any) -> None:
    torch.manual_seed(4)
    memory = Memory(7, 4)
    features = torch.randn(2, 256, 2, 3) * 0.1
    losses = []
    for image in range(2):
        cells = features[image].flatten(1).T  # [x, d]
        rebuilt = []
        for cell in cells:
            act = torch.stack([cell @ embedding for embedding in memory.embeddings[0].T])
            powers = (act.sigmoid() if values == "activations" else act).exp()
            rebuilt.append(
                sum(
                    p / powers.sum() * m
                    for p, m in zip(powers, memory.embeddings[0].T, strict=True)
                )
            )
        for x, cell in enumerate(cells):
            column = torch.stack([own @ cell for own in rebuilt])
            losses.append(-(column[x] - column.exp().sum().log()))
    found = memory.reconstruction(features, values)
    torch.testing.assert_close(found, torch.stack(losses).mean())


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


# ------------------------------------------------------------------ the authors' code


def public(**switches: object) -> MMNet:
    return network(**MMNet.PRESETS["public-code"]["options"], **switches)


def activated(built: MMNet, batch: EpisodeBatch, masks: Tensor) -> Tensor:
    query, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
    return built._activated(0, query, supports, masks)


def test_the_last_mask_counts_for_every_shot_in_the_public_code() -> None:
    batch = random_episodes(k=3)
    first, last = batch.masks.clone(), batch.masks.clone()
    first[:, :, 0] = 1
    last[:, :, 2] = 1
    built = public().eval()
    before = activated(built, batch, batch.masks)
    assert torch.equal(activated(built, batch, first), before)
    assert not torch.equal(activated(built, batch, last), before)
    own = network().eval()
    assert not torch.equal(activated(own, batch, first), activated(own, batch, batch.masks))


def test_the_code_compares_products_and_multiplies_activations() -> None:
    built, batch = public().eval(), random_episodes(b=1)
    query, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
    memory = built.memories[0]
    assert isinstance(memory, Memory)
    ours = memory.products(query["f0"])[0].flatten(1)
    theirs = memory.products(supports["f0"][:, 0, 0])[0].flatten(1)
    mask = grid_mask(batch.masks[:, 0, 0], (6, 6))[0].flatten()
    expected = torch.zeros_like(ours)
    for q in range(ours.shape[1]):
        inside = [s for s in range(len(mask)) if mask[s] > 0]
        powers = [math.exp(cosine(ours[:, q], theirs[:, s]) * float(mask[s])) for s in inside]
        for s, power in zip(inside, powers, strict=True):
            expected[:, q] += theirs[:, s].sigmoid() * ours[:, q].sigmoid() * power / sum(powers)
    found = activated(built, batch, batch.masks)
    torch.testing.assert_close(found[0].flatten(1), expected, atol=1e-5, rtol=1e-4)


def test_the_code_masks_the_input_of_stage_4_as_well() -> None:
    batch = random_episodes(b=1)
    built = public().eval()
    _, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
    image, masks = batch.supports[:, 0, 0], batch.masks[:, 0, 0]
    third = built.backbone(image).stages[2]
    mask = grid_mask(masks, (third.shape[-2], third.shape[-1])).unsqueeze(1)
    expected = built.backbone.stage(4, third * mask) * mask
    torch.testing.assert_close(supports["high"][:, 0, 0], expected)
    paper = network().eval()
    _, supports = paper.encode_episodes(batch.query, batch.supports, batch.masks)
    whole = paper.backbone(image).stages[3]
    torch.testing.assert_close(supports["high"][:, 0, 0], whole * mask)


@pytest.mark.parametrize("built", [network(), public()], ids=["paper", "code"])
def test_only_the_first_support_is_reconstructed(built: MMNet) -> None:
    built.eval()
    batch = random_episodes(k=3)
    query, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
    memory = built.memories[0]
    assert isinstance(memory, Memory)
    expected = memory.reconstruction(supports["f0"][:, 0, 0], built.options.rebuild)
    losses = built.losses(query, supports, batch.masks, batch.target)
    torch.testing.assert_close(losses["reconstruction"], expected)


def test_activations_are_resized_for_each_level_not_averaged() -> None:
    built, batch = network(bins=(6, 3)).eval(), random_episodes(b=1)
    given: list[Tensor] = []
    built.decoder.register_forward_pre_hook(lambda module, inputs: given.extend(inputs[0]))
    built(batch.query, batch.supports, batch.masks)
    assert torch.equal(given[1][..., 0, 0], given[0][..., 0, 0])  # aligned corners


def test_the_memory_starts_with_deviation_1_and_the_convolution_has_no_bias() -> None:
    memory = network(embeddings=50).memories[0]
    assert isinstance(memory, Memory)
    assert memory.embeddings.std().item() == pytest.approx(1.0, abs=0.02)
    assert not [name for name, _ in memory.named_parameters() if name.endswith("bias")]


@pytest.mark.parametrize("k", [1, 5])
def test_the_public_form_trains_with_any_masks(k: int) -> None:
    for values in ((0, 1, 255), (0,), (255,), (1,)):
        check_finite(public().train(), random_episodes(k=k, values=values))


# ------------------------------------------------------------------ settings


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
        for name in ("vgg16", "resnet50", "resnet50_v2", "resnet101_v2")
    }
    assert sizes == {"vgg16": 321, "resnet50": 321, "resnet50_v2": 473, "resnet101_v2": 473}
