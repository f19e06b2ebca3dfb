"""SD-AANet against slow loops written from its equations."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.common.errors import InputError
from fssplat.methods.layers.multiscale import level_sizes, sides_of
from fssplat.methods.layers.prototypes import Guide
from fssplat.methods.sdaanet import SDAANet, distillation
from tests.fakes.method_inputs import FourStageBackbone, check_finite, random_episodes

PUBLIC = SDAANet.PRESETS["public-code"]["options"]


def network(**switches: object) -> SDAANet:
    torch.manual_seed(0)
    options = SDAANet.Options(**{"bins": (6, 4), **switches})
    return SDAANet(FourStageBackbone(SDAANet.backbone_layout("tiny", options)), options)


# ------------------------------------------------------------------ distillation


def softmax(values: list[float], heat: float) -> list[float]:
    powers = [math.exp(value / heat) for value in values]
    return [power / sum(powers) for power in powers]


def divergence(teacher: list[float], student: list[float]) -> float:
    return sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True))


def slow_distillation(support: Tensor, query: Tensor, options: SDAANet.Options) -> Tensor:
    """[k, c], [k, c] -> [k], Eqs. 4, 5, 7 and 9 in plain numbers."""
    k, c = support.shape
    heat = options.temperature
    found = []
    for shot in range(k):
        halves = [
            support[i].tolist() for i in (range(k) if options.teacher == "integral" else [shot])
        ]
        of_query = query[shot].tolist()
        if options.teacher_average == "softmax":
            halves = [softmax(half, heat) for half in halves]
            of_query = softmax(of_query, heat)
        half = [sum(column) / len(halves) for column in zip(*halves, strict=True)]
        teacher = [(a + b) / 2 for a, b in zip(half, of_query, strict=True)]
        if options.teacher_average == "prototype":
            teacher = softmax(teacher, heat)
        value = divergence(teacher, softmax(support[shot].tolist(), heat))
        found.append(value / (c if options.kd_mean == "elements" else 1))
    return torch.tensor(found) * options.kd_factor * heat**2


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("teacher", ["integral", "separate"])
@pytest.mark.parametrize("switches", [{}, PUBLIC], ids=["paper", "public-code"])
def test_the_loss_is_the_divergence_from_the_averaged_teacher(
    k: int, teacher: str, switches: dict[str, object]
) -> None:
    options = SDAANet.Options(**{**switches, "teacher": teacher})
    support, query = torch.randn(2, 2, 1, k, 6)
    found = distillation(support, query, options)
    for episode in range(2):
        expected = slow_distillation(support[episode, 0], query[episode, 0], options)
        torch.testing.assert_close(found[episode, 0], expected)


def test_distillation_between_equal_prototypes_is_zero() -> None:
    same = torch.randn(1, 1, 3, 8)
    assert distillation(same, same, SDAANet.Options()).abs().max() < 1e-6


def test_gradients_flow_into_the_teacher_too() -> None:
    support, query = torch.randn(2, 1, 1, 1, 8).requires_grad_()
    distillation(support, query, SDAANet.Options()).sum().backward()


@pytest.mark.parametrize("query_prototype", ["weighted", "unweighted"])
@pytest.mark.parametrize("teacher", ["integral", "separate"])
def test_the_query_prototype_is_the_mean_of_the_scaled_query_under_its_mask(
    query_prototype: str, teacher: str
) -> None:
    built = network(query_prototype=query_prototype, teacher=teacher)
    feature = torch.rand(1, 256, 5, 5)
    target = torch.zeros(1, 5, 5, dtype=torch.long)
    target[0, 1:3, 2:4] = 1
    target[0, 4] = 255
    guide = Guide(torch.rand(1, 1, 3, 256), torch.rand(1, 1, 3, 256))
    inside = feature[0, :, 1:3, 2:4].flatten(1)
    of_query = []
    for shot in range(3):
        weights = guide.weights[0, 0]
        factor = weights.mean(dim=0) if teacher == "integral" else weights[shot]
        factor = factor if query_prototype == "weighted" else torch.ones(256)
        of_query.append((inside * factor[:, None]).sum(dim=1) / 4.0005)
    expected = slow_distillation(guide.scaled[0, 0], torch.stack(of_query), built.options).mean()
    torch.testing.assert_close(built._distillation(feature, guide, target), expected)


def test_a_way_that_the_query_does_not_show_adds_no_distillation() -> None:
    built = network(ways=2)
    guide = Guide(torch.rand(1, 2, 1, 256), torch.rand(1, 2, 1, 256))
    feature, target = torch.rand(1, 256, 5, 5), torch.zeros(1, 5, 5, dtype=torch.long)
    assert built._distillation(feature, guide, target) == 0
    target[0, 0] = 2
    only = Guide(guide.prototypes[:, [1, 1]], guide.weights[:, [1, 1]])
    torch.testing.assert_close(
        built._distillation(feature, guide, target), built._distillation(feature, only, target)
    )


def test_in_the_public_code_a_query_without_the_object_is_distilled_too() -> None:
    built = network(**PUBLIC)
    guide = Guide(torch.rand(1, 1, 1, 256), torch.rand(1, 1, 1, 256))
    feature, target = torch.rand(1, 256, 5, 5), torch.zeros(1, 5, 5, dtype=torch.long)
    wanted = distillation(guide.scaled, torch.zeros(1, 1, 1, 256), built.options).mean()
    assert wanted > 0
    torch.testing.assert_close(built._distillation(feature, guide, target), wanted)


# ------------------------------------------------------------------ channel weights


@pytest.mark.parametrize("k", [1, 5])
def test_the_query_is_scaled_once_in_the_paper_and_repeatedly_in_the_code(k: int) -> None:
    weights = torch.rand(1, 1, k, 4)
    once = network()._query_weights(weights)[0]
    repeated = network(query_weighting="repeated")._query_weights(weights)[0]
    expected = torch.ones(4)
    for shot in range(k):
        expected = expected * weights[0, 0, shot]
    torch.testing.assert_close(once, weights[0, 0].mean(dim=0))
    torch.testing.assert_close(repeated, expected * (weights[0, 0].mean(dim=0) + 1) / 2)


def test_the_scaled_prototype_is_the_mean_of_the_scaled_feature() -> None:
    built = network().eval()
    batch = random_episodes(values=(0, 1))
    _, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
    guide = built._guide(supports, batch.masks)
    feature = supports["feature"][:, 0, 0]
    small = F.interpolate(
        batch.masks[:, 0].float(), size=feature.shape[-2:], mode="bilinear", align_corners=True
    )
    factor = guide.weights[:, 0, 0, :, None, None]
    averaged = (feature * (2 * factor - 1) + feature) / 2  # Eq. 3, v_s = 2 factor - 1
    expected = (averaged * small).sum(dim=(2, 3)) / (small.sum(dim=(2, 3)) + 5e-4)
    torch.testing.assert_close(guide.scaled[:, 0, 0], expected)


# ------------------------------------------------------------------ the network


@pytest.mark.parametrize("values", [(0, 1, 255), (0,), (255,), (1,)])
@pytest.mark.parametrize("k", [1, 5])
def test_losses_and_gradients_are_finite_whatever_the_masks(
    values: tuple[int, ...], k: int
) -> None:
    check_finite(network(), random_episodes(k=k, values=values))


@pytest.mark.parametrize(
    ("switches", "terms"),
    [
        ({"sdpm": False, "saam": False}, {"segmentation", "auxiliary"}),
        ({"sdpm": False}, {"segmentation", "auxiliary", "support"}),
        ({"saam": False}, {"segmentation", "auxiliary", "distillation"}),
        ({"prior": False}, set(SDAANet.LOSS_WEIGHTS)),
        ({"teacher": "integral"}, set(SDAANet.LOSS_WEIGHTS)),
        (PUBLIC, set(SDAANet.LOSS_WEIGHTS)),
        ({"bins": (1.0, 0.5)}, set(SDAANet.LOSS_WEIGHTS)),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_every_row_of_tables_4_and_6_trains(switches: dict[str, object], terms: set[str]) -> None:
    built = network(**switches)
    batch = random_episodes(k=2)
    losses = built.training_losses(batch)
    assert set(losses) == terms
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in built.learnable().values())
    assert built.eval()(batch.query, batch.supports, batch.masks).shape == (2, 2, 41, 41)


def test_several_scales_add_their_softmax() -> None:
    batch = random_episodes()
    single, several = network().eval(), network(scales=(20, 30)).eval()
    query, supports = single.encode_episodes(batch.query, batch.supports, batch.masks)
    native, _ = single._decode(query, supports, single._guide(supports, batch.masks))
    total = torch.zeros(2, 2, 41, 41)
    for side in (20, 30):
        soft = F.interpolate(native, (side, side), mode="bilinear", align_corners=True).softmax(1)
        total += F.interpolate(soft, (41, 41), mode="bilinear", align_corners=True)
    found = several(batch.query, batch.supports, batch.masks)
    torch.testing.assert_close(found.exp(), total, atol=1e-5, rtol=1e-4)


def test_scales_of_images_are_a_pass_of_the_network_for_each_size() -> None:
    batch = random_episodes(k=2)
    several = network(scales=(33, 57), scales_of="images").eval()
    plain = network().eval()
    total = torch.zeros(2, 2, 41, 41)
    for side in (33, 57):
        query = F.interpolate(batch.query, (side, side), mode="bilinear", align_corners=True)
        images = batch.supports.flatten(0, 2)
        resized = F.interpolate(images, (side, side), mode="bilinear", align_corners=True)
        of_query = plain.encode_query(plain.encode(query))
        masks = batch.masks.flatten(0, 2)
        of_supports = plain.encode_support(plain.encode(resized), resized, masks)
        grouped = {name: one.unflatten(0, (2, 1, 2)) for name, one in of_supports.items()}
        total += plain.segment(of_query, grouped, batch.masks, (41, 41)).softmax(dim=1)
    found = several(batch.query, batch.supports, batch.masks)
    torch.testing.assert_close(found.exp(), total, atol=1e-5, rtol=1e-4)


def test_scales_of_images_keep_the_shape_and_leave_training_as_it_is() -> None:
    assert sides_of(torch.zeros(1, 3, 30, 60), 90) == (45, 90)
    batch = random_episodes()
    losses = network(scales=(33, 57), scales_of="images").training_losses(batch)
    assert losses.keys() == network().training_losses(batch).keys()
    built = network(scales=(33, 57), scales_of="images")
    assert built.train().encode(batch.query).keys() == {"middle"}
    assert built.eval().encode(batch.query).keys() == {"middle", "middle@33", "middle@57"}


def test_scales_that_agree_on_zero_probability_stay_finite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built, batch = network(scales=(20, 30)).eval(), random_episodes()
    decode = built._decode
    monkeypatch.setattr(built, "_decode", lambda *given: (decode(*given)[0] * 1e6, []))
    assert torch.isfinite(built(batch.query, batch.supports, batch.masks)).all()


def test_five_ways_have_five_outputs_and_a_background_of_zero() -> None:
    built = network(ways=5)
    batch = random_episodes(n=5)
    assert built.decoder.head[-1].out_channels == 5
    losses = built.training_losses(batch)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in built.learnable().values())
    logits = built.eval()(batch.query, batch.supports, batch.masks)
    assert logits.shape == (2, 6, 41, 41)
    assert logits[:, 0].abs().max() == 0


def test_ways_that_the_network_was_not_built_for_are_refused() -> None:
    batch = random_episodes(n=2)
    with pytest.raises(InputError, match=r"built for 1 classes .* has 2\. Set the method's option"):
        network()(batch.query, batch.supports, batch.masks)


def test_a_single_episode_cannot_train() -> None:
    with pytest.raises(InputError, match=r"Set training.batch and training.micro_batch to 2"):
        network().training_losses(random_episodes(b=1))


def test_a_bin_of_at_most_one_is_a_share_of_the_grid() -> None:
    assert level_sizes((60, 1.0, 0.5, 0.01), (21, 17)) == [(60, 60), (21, 17), (10, 8), (1, 1)]


# ------------------------------------------------------------------ sizes


class Wide(FourStageBackbone):
    """The channels of ResNet-50, none of its weights."""

    channels = (256, 512, 1024, 2048)


@pytest.mark.parametrize(
    ("switches", "expected"),
    [({}, 21_341_261), (PUBLIC, 21_341_261), ({"sdpm": False, "saam": False}, 10_817_034)],
    ids=["paper", "public-code", "baseline"],
)
def test_learnable_parameters_are_those_counted_in_the_public_code(
    switches: dict[str, object], expected: int
) -> None:
    with torch.device("meta"):
        options = SDAANet.Options(**switches)
        built = SDAANet(Wide(SDAANet.backbone_layout("resnet50", options)), options)
    assert sum(parameter.numel() for parameter in built.learnable().values()) == expected
