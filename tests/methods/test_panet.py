"""PANet against its equations, written as loops."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.experiment.schema import BackboneSpec, MethodSpec
from fssplat.methods import build_method
from fssplat.methods.layers.prototypes import corner_weights, cosine_scores, mean_under_mask
from fssplat.methods.panet import PANet


def network(backbone: str = "vgg16") -> PANet:
    torch.manual_seed(0)
    built = build_method(MethodSpec(name="panet"), BackboneSpec(name=backbone, weights="random"))
    assert isinstance(built, PANet)
    return built


def slow_mean(features: Tensor, mask: Tensor) -> Tensor:
    """[c, h, w], [H, W] bool -> [c]: enlarge, then average pixel by pixel."""
    size = (mask.shape[0], mask.shape[1])
    large = F.interpolate(features[None], size=size, mode="bilinear", align_corners=True)[0]
    chosen = [large[:, y, x] for y in range(size[0]) for x in range(size[1]) if mask[y, x]]
    return torch.stack(chosen).mean(dim=0) if chosen else torch.zeros(len(features))


def test_a_prototype_is_the_mean_feature_under_its_mask() -> None:
    features = torch.tensor([1.0, 3.0, 5.0, 9.0]).view(1, 2, 2)
    masks = torch.tensor([1, 1, 0, 255]).view(2, 2)
    assert mean_under_mask(features, masks == 1).item() == 2.0  # (1 + 3) / 2
    assert mean_under_mask(features, masks == 0).item() == 5.0  # the 9 is ignored


@pytest.mark.parametrize("mask", ["random", "empty", "full"])
@pytest.mark.parametrize(("grid", "size"), [((5, 4), (17, 13)), ((3, 3), (3, 3)), ((1, 6), (9, 1))])
def test_the_mean_is_that_of_the_enlarged_features(
    mask: str, grid: tuple[int, int], size: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    features = torch.randn(2, 7, *grid)
    inside = torch.rand(2, *size) < {"random": 0.4, "empty": 0.0, "full": 1.1}[mask]
    ours = mean_under_mask(features, inside)
    slow = torch.stack([slow_mean(f, m) for f, m in zip(features, inside, strict=True)])
    torch.testing.assert_close(ours, slow, atol=2e-6, rtol=1e-5)


def test_corner_weights_are_the_matrix_of_the_resize() -> None:
    impulses = torch.eye(6).view(6, 1, 1, 6)
    resized = F.interpolate(impulses, size=(1, 20), mode="bilinear", align_corners=True)
    torch.testing.assert_close(corner_weights(20, 6, torch.device("cpu")).T, resized.flatten(1))


def test_a_zero_prototype_scores_zero() -> None:
    scores = cosine_scores(torch.randn(1, 4, 3, 3), torch.zeros(1, 2, 4))
    assert torch.equal(scores, torch.zeros(1, 2, 3, 3))


@pytest.mark.parametrize(("ways", "shots"), [(1, 1), (1, 5), (3, 2)])
def test_logits_are_equation_3(ways: int, shots: int) -> None:
    torch.manual_seed(2)
    panet = network()
    query = {"features": torch.randn(2, 512, 4, 5)}
    supports = {
        "foreground": torch.randn(2, ways, shots, 512),
        "background": torch.randn(2, ways, shots, 512),
    }
    masks = torch.zeros(2, ways, shots, 32, 40)
    logits = panet.segment(query, supports, masks, (4, 5))
    assert logits.shape == (2, ways + 1, 4, 5)
    for b in range(2):
        background = supports["background"][b].reshape(-1, 512).mean(dim=0)
        prototypes = [background, *(supports["foreground"][b, w].mean(dim=0) for w in range(ways))]
        for j, prototype in enumerate(prototypes):
            for y in range(4):
                for x in range(5):
                    feature = query["features"][b, :, y, x]
                    wanted = 20 * F.cosine_similarity(feature, prototype, dim=0)
                    torch.testing.assert_close(logits[b, j, y, x], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("ways", "shots"), [(1, 1), (2, 3)])
def test_alignment_segments_each_support_with_prototypes_of_the_predicted_query(
    ways: int, shots: int
) -> None:
    torch.manual_seed(3)
    panet = network()
    query = {"features": torch.randn(1, 512, 3, 4)}
    supports = {"features": torch.randn(1, ways, shots, 512, 3, 4)}
    predicted = torch.randint(0, ways + 1, (1, 12, 16))
    masks = torch.zeros(1, ways, shots, 12, 16, dtype=torch.long)
    swapped = panet.swapped(query, supports, predicted, masks)
    assert swapped.shape == (ways * shots, 2, 12, 16)
    background = slow_mean(query["features"][0], predicted[0] == 0)
    for way in range(ways):
        pair = torch.stack([background, slow_mean(query["features"][0], predicted[0] == way + 1)])
        for shot in range(shots):
            scores = 20 * cosine_scores(supports["features"][0, way, shot][None], pair[None])
            wanted = F.interpolate(scores, size=(12, 16), mode="bilinear", align_corners=True)[0]
            torch.testing.assert_close(swapped[way * shots + shot], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("value", [0, 1, 255], ids=["empty", "full", "all-ignored"])
@pytest.mark.parametrize("shots", [1, 5])
def test_losses_and_gradients_stay_finite_for_degenerate_masks(value: int, shots: int) -> None:
    panet = network("efficientnet_lite0").train()
    query, target = torch.randn(1, 3, 64, 64), torch.full((1, 64, 64), value)
    masks = torch.full((1, 1, shots, 64, 64), value)
    encoded = panet.encode_episodes(query, torch.randn(1, 1, shots, 3, 64, 64), masks)
    losses = panet.losses(*encoded, masks, target)
    sum(losses.values(), torch.tensor(0.0)).backward()
    assert set(losses) == set(PANet.LOSS_WEIGHTS)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in panet.learnable().values())
    if value == 255:
        assert losses["segmentation"].item() == 0.0


def test_a_class_that_the_query_is_not_predicted_to_show_aligns_with_nothing() -> None:
    panet = network()
    features = torch.rand(2, 512, 3, 3)
    query = {"features": features}
    supports = {"features": torch.randn(2, 1, 1, 512, 3, 3)}
    supports["background"] = features.mean(dim=(2, 3)).view(2, 1, 1, 512)  # the query looks like it
    supports["foreground"] = -supports["background"]
    masks = torch.ones(2, 1, 1, 6, 6, dtype=torch.long)
    losses = panet.losses(query, supports, masks, torch.zeros(2, 6, 6, dtype=torch.long))
    assert losses["alignment"].item() == 0.0
    query["features"] = torch.cat([-features[:1], features[1:]])  # the first is all object
    alone = ({"features": query["features"][:1]}, {n: v[:1] for n, v in supports.items()})
    target = torch.zeros(2, 6, 6, dtype=torch.long)
    both = panet.losses(query, supports, masks, target)["alignment"]
    assert both.item() > 0
    torch.testing.assert_close(both, panet.losses(*alone, masks[:1], target[:1])["alignment"])


def test_the_whole_backbone_is_trained_and_nothing_is_added() -> None:
    panet = network("vgg16")
    learnable = sum(p.numel() for p in panet.learnable().values())
    assert learnable == 14_714_688  # VGG-16 without its classifier
    assert all(name.startswith("backbone.") for name in panet.learnable())


def test_vgg_features_have_stride_8_and_512_channels() -> None:
    backbone = network("vgg16").backbone
    assert backbone.strides == (4, 8, 8, 8)
    with torch.no_grad():
        last = backbone(torch.zeros(1, 3, 64, 64)).stages[-1]
    assert last.shape == (1, 512, 8, 8)
