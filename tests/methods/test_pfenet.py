"""PFENet's maths against slow loops, and its switches."""

import math

import pytest
import torch
from torch import Tensor

from fssplat.backbones import build_backbone
from fssplat.common.errors import InputError
from fssplat.experiment.schema import BackboneSpec
from fssplat.methods.layers.matching import (
    best_cosine,
    best_cosine_inside,
    best_match,
    grid_mask,
    masked_mean,
    mean_best_match,
    middle_features,
)
from fssplat.methods.layers.multiscale import level_sizes
from fssplat.methods.pfenet import RATIOS, PFENet
from fssplat.methods.prior import Prior
from tests.fakes.method_inputs import (
    BaseImages,
    FourStageBackbone,
    MemoryArtefacts,
    random_episodes,
)


def network(**switches: object) -> PFENet:
    torch.manual_seed(0)
    options = PFENet.Options(**{"bins": (6, 4), **switches})
    return PFENet(FourStageBackbone(PFENet.backbone_layout("tiny", options)), options).eval()


def slow_prior(query: Tensor, support: Tensor) -> Tensor:
    """Best cosine of each query cell, min-max scaled: [c, h, w], [c, h', w'] -> [h, w]."""
    _, h, w = query.shape
    found = torch.zeros(h, w)
    for y in range(h):
        for x in range(w):
            best = -math.inf
            for cell in support.flatten(1).T:
                one = query[:, y, x]
                best = max(best, float(one @ cell / (one.norm() * cell.norm() + 1e-7)))
            found[y, x] = best
    return (found - found.min()) / (found.max() - found.min() + 1e-7)


@pytest.mark.parametrize("masked", ["all", "some", "none"])
def test_the_prior_is_the_best_cosine_scaled_to_0_and_1(masked: str) -> None:
    draw = torch.Generator().manual_seed(0)
    query, support = (
        torch.randn(2, 5, 4, 3, generator=draw),
        torch.randn(2, 5, 3, 4, generator=draw),
    )
    if masked == "some":
        support[..., :2] = 0
    if masked == "none":
        support = torch.zeros_like(support)
    found = best_match(query, support)
    for ours, q, s in zip(found, query, support, strict=True):
        assert torch.allclose(ours, slow_prior(q, s), atol=1e-5)
    if masked == "none":
        assert not found.any()


def test_cosines_are_the_same_with_and_without_the_cells_outside() -> None:
    query, supports = torch.randn(2, 5, 9), torch.randn(2, 3, 5, 6)
    supports[0, 1, :, 2:], supports[1, 0] = 0, 0
    ours = best_cosine_inside(query, supports)
    assert torch.allclose(ours, best_cosine(query, supports), atol=1e-6)


def test_priors_are_averaged_over_shots() -> None:
    query, supports = torch.randn(2, 5, 4, 4), torch.randn(2, 3, 5, 4, 4)
    mean = torch.stack([best_match(query, supports[:, k]) for k in range(3)]).mean(dim=0)
    assert torch.allclose(mean_best_match(query, supports), mean, atol=1e-6)


def test_a_prototype_is_the_sum_under_the_mask_over_its_area() -> None:
    features = torch.tensor([1.0, 3.0, 5.0, 9.0]).view(1, 1, 2, 2)
    mask = torch.tensor([1.0, 0.5, 0.0, 0.0]).view(1, 2, 2)
    assert masked_mean(features, mask).item() == pytest.approx((1 + 1.5) / (1.5 + 5e-4))
    assert masked_mean(features, torch.zeros(1, 2, 2)).item() == 0.0


def test_an_ignored_pixel_of_a_support_is_background() -> None:
    labels = torch.tensor([[1, 255], [0, 1]]).unsqueeze(0)
    assert grid_mask(labels, (2, 2)).tolist() == [[[1.0, 0.0], [0.0, 1.0]]]


def test_a_bin_of_at_most_1_is_a_share_of_the_grid_cut_off() -> None:
    assert level_sizes(RATIOS, (21, 17)) == [(21, 17), (10, 8), (5, 4), (2, 2)]
    assert level_sizes((60, 8), (21, 17)) == [(60, 60), (8, 8)]


def test_stage_3_comes_before_stage_2() -> None:
    built = network()
    features = built.backbone(torch.randn(1, 3, 41, 41))
    middle = middle_features(features)
    assert torch.equal(built._third(middle), features.stages[2])
    assert torch.equal(middle[:, 10:], features.stages[1])


def test_without_the_prior_stage_4_is_neither_built_nor_run() -> None:
    built = network(prior=False)
    assert len(built.backbone.channels) == 3
    batch = random_episodes(b=1)
    assert "high" not in built.encode_query(built.encode(batch.query))
    assert built(batch.query, batch.supports, batch.masks).shape == (1, 2, 41, 41)


def test_the_class_agnostic_map_is_one_more_channel() -> None:
    built, plain = network(ckmm=True), network()
    assert built.decoder.merge[0][0].in_channels == plain.decoder.merge[0][0].in_channels + 1
    built.prepare(BaseImages(), MemoryArtefacts())
    batch = random_episodes(b=1)
    assert built(batch.query, batch.supports, batch.masks).isfinite().all()


def test_batch_statistics_are_an_option_of_the_frozen_backbone() -> None:
    layout = PFENet.backbone_layout("resnet50", PFENet.Options(batch_norm="batch"))
    assert layout.batch_statistics
    assert layout.frozen
    assert not PFENet.backbone_layout("resnet50", PFENet.Options()).batch_statistics


def test_several_ways_are_refused() -> None:
    batch = random_episodes(b=1, n=2)
    with pytest.raises(InputError, match="one class per episode"):
        network()(batch.query, batch.supports, batch.masks)


def test_learning_rates_are_the_effective_ones_of_the_public_code() -> None:
    assert PFENet.recipe("pascal-5i", "resnet50_v2")["lr"] == 0.025
    coco = PFENet.recipe("coco-20i", "resnet101_v2")
    assert (coco["lr"], coco["batch"], coco["size"]) == (0.05, 8, 641)


def test_the_prior_method_segments_by_its_threshold() -> None:
    query = {"high": torch.randn(1, 4, 5, 5).abs()}
    supports = {"high": torch.randn(1, 1, 1, 4, 5, 5).abs()}
    options = Prior.Options(threshold=0.4)
    built = Prior(FourStageBackbone(Prior.backbone_layout("tiny", options)), options)
    masks = torch.ones(1, 1, 1, 5, 5, dtype=torch.long)
    chosen = built.segment(query, supports, masks, (5, 5)).argmax(dim=1)
    prior = best_match(query["high"], supports["high"][:, 0, 0])
    assert torch.equal(chosen, (prior > 0.4).long())
    nothing = {"high": torch.zeros(1, 1, 1, 4, 5, 5)}
    assert not built.segment(query, nothing, masks, (5, 5)).argmax(dim=1).any()
    assert not built.learnable()


def test_base_prototypes_neither_use_nor_change_batch_statistics() -> None:
    def prepared(batch_norm: str) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(0)
        options = PFENet.Options(bins=(6, 4), ckmm=True, batch_norm=batch_norm)  # type: ignore[arg-type]
        layout = PFENet.backbone_layout("resnet50", options)
        backbone = build_backbone(BackboneSpec(name="resnet50", weights="random"), layout)
        built = PFENet(backbone, options)
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        built.train().prepare(BaseImages(), MemoryArtefacts())
        assert all(
            torch.equal(value, before[name]) for name, value in backbone.state_dict().items()
        )
        assert built.objects is not None
        assert backbone.training is (batch_norm == "batch")
        return built.objects.prototype, before

    assert torch.equal(prepared("batch")[0], prepared("fixed")[0])
