"""Hybrid masking against Algorithm 1 as a loop, and its two kinds of masking."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.experiment.schema import BackboneSpec, MethodSpec
from fssplat.methods import build_method
from fssplat.methods.hmfs import HMFS, hybrid
from fssplat.methods.hsnet import EPS, LEVELS, HSNet
from tests.fakes.method_inputs import random_episodes

SIDE = 129  # the smallest odd side whose deepest level keeps a few cells


def network(name: str = "hmfs", **options: Any) -> HSNet:
    torch.manual_seed(0)
    spec = MethodSpec(name=name, options=options)
    built = build_method(spec, BackboneSpec(name="resnet50", weights="random"))
    assert isinstance(built, HSNet)
    return built


def support(values: tuple[int, ...] = (0, 1, 255)) -> tuple[Tensor, Tensor]:
    batch = random_episodes(b=1, side=SIDE, values=values)
    return batch.supports.flatten(0, 2), batch.masks.flatten(0, 2)


@torch.no_grad()
def encoded(built: HSNet, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
    return built.encode_support(built.encode(images), images, masks)


def test_algorithm_1_replaces_exact_zeros() -> None:
    of_features = torch.tensor([[0.0, 2.0], [-1.0, 0.0]])
    of_input = torch.tensor([[5.0, 6.0], [7.0, -8.0]])
    assert hybrid(of_features, of_input, only_zero=True).tolist() == [[5.0, 2.0], [-1.0, -8.0]]
    assert hybrid(of_features, of_input, only_zero=False).tolist() == [[5.0, 2.0], [7.0, -8.0]]


@pytest.mark.parametrize("values", [(0, 1, 255), (0,), (255,), (1,)], ids=str)
@pytest.mark.parametrize("replaced", ["zero", "not-positive"])
def test_every_block_is_mixed_by_itself_and_divided_by_its_norm(
    values: tuple[int, ...], replaced: str
) -> None:
    built = network(replaced=replaced)
    images, masks = support(values)
    inside = (masks == 1).float()[:, None]
    black = torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]).view(3, 1, 1)
    with torch.no_grad():
        whole = built.backbone(images).blocks
        cut = built.backbone(images * inside + black * (1 - inside)).blocks
    ours = encoded(built, images, masks)
    for level in LEVELS:
        wanted = []
        for fm, im in zip(whole[level - 1], cut[level - 1], strict=True):
            grid = (fm.shape[2], fm.shape[3])
            mask = F.interpolate(inside, size=grid, mode="bilinear", align_corners=True)
            mixed = (fm * mask).clone()
            unset = mixed == 0 if replaced == "zero" else mixed <= 0
            mixed[unset] = im[unset]
            wanted.append(mixed / (mixed.norm(dim=1, keepdim=True) + EPS))
        torch.testing.assert_close(
            ours[f"level{level}"], torch.cat(wanted, 1), atol=1e-5, rtol=1e-4
        )


def test_input_masking_is_the_network_on_the_masked_image() -> None:
    built = network(masking="im", outside="mean-colour")
    images, masks = support()
    with torch.no_grad():
        wanted = built.encode(images * (masks == 1)[:, None])
    ours = encoded(built, images, masks)
    assert set(ours) == {f"level{level}" for level in LEVELS}
    for name, value in ours.items():
        torch.testing.assert_close(value, wanted[name])


def test_feature_masking_is_hsnet() -> None:
    images, masks = support()
    ours = encoded(network(masking="fm"), images, masks)
    hsnet = encoded(network("hsnet"), images, masks)
    for name, value in ours.items():
        assert torch.equal(value, hsnet[name])


def test_an_object_that_fills_the_image_needs_no_replacement() -> None:
    images, _ = support()
    everywhere = torch.ones(1, SIDE, SIDE, dtype=torch.long)
    ours = encoded(network(), images, everywhere)
    plain = encoded(network("hsnet"), images, everywhere)
    for name, value in ours.items():
        torch.testing.assert_close(value, plain[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("masking", ["im", "fm", "hm"])
@pytest.mark.parametrize("value", [0, 255], ids=["empty", "all-ignored"])
def test_losses_and_gradients_stay_finite_without_an_object(masking: str, value: int) -> None:
    built = network(masking=masking).train()
    losses = built.training_losses(random_episodes(b=1, side=SIDE, values=(value,)))
    losses["segmentation"].backward()
    for name, parameter in built.learnable().items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_hybrid_masking_learns_what_hsnet_learns() -> None:
    assert sum(p.numel() for p in network().learnable().values()) == 2_573_794
    with torch.device("meta"):
        deep = build_method(
            MethodSpec(name="hmfs"), BackboneSpec(name="resnet101", weights="random")
        )
    assert sum(p.numel() for p in deep.learnable().values()) == 2_587_394
    assert sum(p.numel() for p in deep.parameters()) == 45_087_554


def test_only_pascal_is_augmented_and_every_batch_has_20_episodes() -> None:
    recipes = {
        name: HMFS.recipe(name, "resnet50") for name in ("pascal-5i", "coco-20i", "fss-1000")
    }
    assert {recipe["batch"] for recipe in recipes.values()} == {20}
    flips = {name: recipe["augment"].get("flip", False) for name, recipe in recipes.items()}
    assert flips == {"pascal-5i": True, "coco-20i": False, "fss-1000": False}
