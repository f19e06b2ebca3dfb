"""MiningFSS against its equations, written as loops."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.data.batch import EpisodeBatch
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import BackboneSpec, ExperimentSpec, MethodSpec
from fssplat.methods import METHODS, build_method
from fssplat.methods.layers.matching import grid_mask
from fssplat.methods.layers.prototypes import mean_under_mask
from fssplat.methods.layers.pseudo_labels import (
    PseudoMasks,
    Regions,
    pseudo_masks,
    regions,
)
from fssplat.methods.mining import MiningFSS
from tests.fakes.method_inputs import (
    BaseImages,
    MemoryArtefacts,
    random_episodes,
)
from tests.fakes.mining_networks import cell_means, network, prepared


def slow_rectified(
    prototype: Tensor,
    embedding: Tensor,
    bank: list[tuple[Tensor, list[Tensor]]],
    n: int,
    beta: float,
) -> Tensor:
    """Eqs. 8 and 9 for one support; `bank` has an image's embedding and its regions."""

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(a @ b / (a.norm() * b.norm()).clamp(min=1e-8))

    near = sorted(bank, key=lambda image: -cosine(image[0], embedding))[:n]
    best = [max(found, key=lambda region: cosine(region, prototype)) for _, found in near]
    total = sum(cosine(region, prototype) for region in best)
    if total == 0:
        return (1 - beta) * prototype
    mixed = sum((cosine(r, prototype) / total * r for r in best), torch.zeros_like(prototype))
    return (1 - beta) * prototype + beta * mixed


@pytest.mark.parametrize("n", [1, 4, 50])
def test_a_prototype_moves_towards_its_regions_as_in_equations_8_and_9(n: int) -> None:
    torch.manual_seed(4)
    counts = [1, 3, 2, 5, 1, 2]
    bank = [(torch.rand(7), [torch.rand(7) for _ in range(count)]) for count in counts]
    images = torch.stack([image for image, _ in bank])
    flat = torch.stack([region for _, found in bank for region in found])
    prototypes, embeddings = torch.rand(3, 7), torch.rand(3, 7)
    prototypes[2] = 0  # an empty support
    ours = Regions(images, flat, torch.tensor(counts)).rectified(prototypes, embeddings, n, 0.2)
    for i in range(3):
        wanted = slow_rectified(prototypes[i], embeddings[i], bank, n, 0.2)
        torch.testing.assert_close(ours[i], wanted, atol=1e-5, rtol=1e-5)


def test_regions_are_the_mean_features_under_the_pseudo_labels_of_each_image() -> None:
    source = BaseImages()
    masks = PseudoMasks(**pseudo_masks(cell_means, source, torch.randn(4, 3)))
    found = Regions(**regions(cell_means, source, masks))
    at = row = 0
    for index in range(len(source)):
        labels = [label for label in masks.grid(index).unique().tolist() if label]
        if not labels:
            continue
        maps = cell_means(source.image(index))
        assert found.counts[row] == len(labels)
        torch.testing.assert_close(
            found.images[row].float(), maps.mean((1, 2)), atol=1e-3, rtol=1e-2
        )
        for label in labels:
            mean = maps[:, masks.grid(index) == label].mean(dim=1)
            torch.testing.assert_close(found.regions[at].float(), mean, atol=1e-3, rtol=1e-2)
            at += 1
        row += 1
    assert (row, at) == (len(found.images), len(found.regions))


def test_an_image_set_without_objects_rectifies_nothing() -> None:
    nothing = PseudoMasks(torch.zeros(4 * 36, dtype=torch.uint8), torch.full((4, 2), 6))
    found = Regions(**regions(cell_means, BaseImages(), nothing))
    prototype = torch.rand(2, 3)
    assert torch.equal(found.rectified(prototype, torch.rand(2, 3), 4, 0.2), prototype)


def test_foreground_is_rectified_at_inference_only_and_with_the_present_weights() -> None:
    built = prepared()
    batch = random_episodes(k=2)
    images, masks = batch.supports.flatten(0, 2), batch.masks.flatten(0, 2)
    built.train()
    plain = built.encode_support(built.encode(images), images, masks)["foreground"]
    encoded = built.eval().encode(images)
    torch.testing.assert_close(plain, mean_under_mask(encoded["features"], masks == 1))
    masks[..., masks.shape[-1] // 2 :] = 255  # padding, on whole feature cells
    plain = mean_under_mask(encoded["features"], masks == 1)
    rectified = built.encode_support(encoded, images, masks)["foreground"]
    shown = grid_mask((masks != 255).long(), tuple(encoded["features"].shape[-2:]))[:, None]
    assert 0 < float(shown.mean()) < 1
    embeddings = (encoded["features"] * shown).sum(dim=(2, 3)) / shown.sum(dim=(2, 3))
    wanted = built.neighbours().rectified(plain, embeddings, 4, 0.2)
    torch.testing.assert_close(rectified, wanted)
    assert not torch.allclose(rectified, plain, atol=1e-4)
    built.before_evaluation()
    kept = built.neighbours()
    assert built.train().eval().neighbours() is kept  # the weights are the same
    with torch.no_grad():
        next(built.average.parameters()).add_(1)  # type: ignore[union-attr]
    assert built.eval().neighbours() is not kept


def test_the_global_background_is_a_moving_average_of_every_step() -> None:
    built = prepared()
    wanted = None
    built.train()
    for step in range(1, 4):
        batch = random_episodes(b=4, seed=step)
        seen = []
        for part in batch.split(2):
            built.training_losses(part)
            for image, mask in zip(
                part.supports.flatten(0, 2), part.masks.flatten(0, 2), strict=True
            ):
                maps = built.encode(image[None])["features"][0]
                seen.append(mean_under_mask(maps, mask == 0))
        built.after_step(step, 3, {**built.MOMENTUM, "background": 0.75})
        current = torch.stack(seen).mean(dim=0)
        wanted = current if wanted is None else 0.75 * wanted + 0.25 * current
        torch.testing.assert_close(built.background, wanted)
    assert not built.background_sum.any()


@pytest.mark.parametrize("training", [True, False])
def test_the_background_is_global_in_training_and_mixed_at_inference(training: bool) -> None:
    built = prepared()
    built.train(training)
    current = torch.randn(2, 10)
    torch.testing.assert_close(built.rectified_background(current), current)  # nothing known yet
    built.background.copy_(torch.randn(10))
    w = 1.0 if training else 0.9
    wanted = w * built.background + (1 - w) * current
    torch.testing.assert_close(built.rectified_background(current), wanted)
    off = network(background=False)
    off.background.fill_(1.0)
    assert torch.equal(off.rectified_background(current), current)


@pytest.mark.parametrize("shots", [1, 5])
def test_logits_are_scaled_cosines_with_the_mean_prototype_of_the_shots(shots: int) -> None:
    built = network(background=False)
    torch.manual_seed(6)
    query = {"features": torch.randn(2, 10, 3, 4)}
    supports = {name: torch.randn(2, 1, shots, 10) for name in ("foreground", "background")}
    logits = built.segment(query, supports, torch.zeros(2, 1, shots, 9, 9), (3, 4))
    for b in range(2):
        for j, name in enumerate(("background", "foreground")):
            prototype = supports[name][b, 0].mean(dim=0)
            for y in range(3):
                for x in range(4):
                    cosine = F.cosine_similarity(query["features"][b, :, y, x], prototype, dim=0)
                    torch.testing.assert_close(
                        logits[b, j, y, x], 20 * cosine, atol=1e-4, rtol=1e-4
                    )


def steps(built: MiningFSS, first: int, last: int, micro: int = 2) -> None:
    """Plain gradient descent on numbered batches, with the engine's calls in the engine's order."""
    built.train()
    for step in range(first, last + 1):
        built.zero_grad()
        for part in random_episodes(seed=step).split(micro):
            losses = built.training_losses(part)
            sum(losses.values(), torch.tensor(0.0)).backward()
        with torch.no_grad():
            for parameter in built.learnable().values():
                parameter -= 0.01 * parameter.grad  # type: ignore[operator]
        built.after_step(step, last, built.MOMENTUM)


def test_a_resumed_training_ends_with_the_same_bits() -> None:
    whole, part = prepared(), prepared()
    steps(whole, 1, 4)
    steps(part, 1, 2)
    resumed = network()
    resumed.prepare(BaseImages(), MemoryArtefacts())  # before the weights are read back
    resumed.load_state_dict(part.state_dict())
    steps(resumed, 3, 4)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def recorder(into: list[Tensor]) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
    """A hook that keeps a module's first input."""

    def record(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        into.append(inputs[0].detach())

    return record


def test_a_step_in_smaller_parts_sees_the_same_pseudo_labelled_images() -> None:
    seen: dict[int, list[Tensor]] = {}
    for micro in (1, 2):
        built = prepared()
        found = seen.setdefault(micro, [])
        assert built.decoder is not None
        built.decoder.register_forward_hook(recorder(found))
        built.train()
        for part in random_episodes(b=4).split(micro):
            built.training_losses(part)
    torch.testing.assert_close(torch.cat(seen[1]), torch.cat(seen[2]))


def test_evaluation_uses_the_average_of_the_weights() -> None:
    built, plain = prepared(), prepared(ema=False)
    steps(built, 1, 3)
    images = torch.randn(1, 3, 41, 41)
    online = built.train().encode(images)["features"]
    averaged = built.eval().encode(images)["features"]
    assert not torch.allclose(online, averaged)
    steps(plain, 1, 3)
    torch.testing.assert_close(plain.eval().encode(images)["features"], online)


def test_the_average_grows_from_one_half_to_its_decay() -> None:
    built = prepared()
    assert built.average is not None
    wanted = next(built.backbone.parameters()).detach().clone()
    for step, decay in ((1, 1 / 2), (2, 2 / 3), (3, 0.7), (4, 0.7)):
        with torch.no_grad():
            for parameter in built.backbone.parameters():
                parameter += step
        built.after_step(step, 4, {**built.MOMENTUM, "ema": 0.7})
        wanted = decay * wanted + (1 - decay) * next(built.backbone.parameters()).detach()
        torch.testing.assert_close(next(built.average.parameters()), wanted)


@pytest.mark.parametrize("values", [(0,), (1,), (255,), (0, 1, 255)], ids=str)
@pytest.mark.parametrize("shots", [1, 5])
def test_losses_and_gradients_are_finite_whatever_the_masks(
    values: tuple[int, ...], shots: int
) -> None:
    built = prepared().train()
    losses = built.training_losses(random_episodes(k=shots, values=values))
    assert set(losses) == set(MiningFSS.LOSS_WEIGHTS)
    sum(losses.values(), torch.tensor(0.0)).backward()
    for name, parameter in built.learnable().items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_an_empty_support_scores_exactly_zero() -> None:
    built = prepared().eval()
    batch = random_episodes(values=(0,))
    assert not built(batch.query, batch.supports, batch.masks)[:, 1].any()


def test_query_and_supports_may_differ_in_size() -> None:
    built = prepared().eval()
    batch = random_episodes(k=2)
    logits = built(torch.randn(2, 3, 30, 52), batch.supports, batch.masks)
    assert logits.shape == (2, 2, 30, 52)


def test_training_without_pseudo_masks_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError, match="prepare"):
        network().train().training_losses(random_episodes())


def test_draw_counters_keep_their_type_and_are_saved() -> None:
    built = prepared()
    built.pairs += 3
    built.to(torch.float64)
    assert built.pairs.dtype == torch.long
    assert int(copy.deepcopy(built.state_dict())["pairs"]) == 3


@pytest.mark.parametrize(
    ("backbone", "learnable", "total"),
    [("resnet50_v2", 8_636_096, 8_667_072), ("resnet101_v2", 27_576_000, 27_659_200)],
)
def test_parameters_are_as_many_as_counted(backbone: str, learnable: int, total: int) -> None:
    preset = MiningFSS.PRESETS["public-code"]["options"]
    with torch.device("meta"):
        built = build_method(
            MethodSpec(name="mining", options=preset), BackboneSpec(name=backbone, weights="random")
        )
        whole = build_method(MethodSpec(name="mining"), BackboneSpec(name=backbone))
    assert sum(p.numel() for p in built.learnable().values()) == learnable
    assert sum(p.numel() for p in built.parameters()) == total
    assert sum(p.numel() for p in whole.encoder.parameters()) == total  # what predicts


def test_coco_gets_more_clusters_unless_the_file_names_them() -> None:
    def clusters(dataset: str, **entry: Any) -> int:
        method = {"name": "mining", **entry}
        grid = {"method": [method], "backbone": ["resnet50_v2"]}
        experiment = ExperimentSpec.model_validate({"name": "t", "dataset": dataset, "grid": grid})
        found: int = expand(experiment, METHODS)[0].method.options["clusters"]
        return found

    assert (clusters("pascal-5i"), clusters("coco-20i")) == (5, 15)
    assert clusters("coco-20i", options={"clusters": 7}) == 7


def test_an_episode_batch_of_one_trains() -> None:
    batch = random_episodes(b=1)
    assert isinstance(batch, EpisodeBatch)
    losses = prepared().train().training_losses(batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
