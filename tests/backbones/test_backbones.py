"""Stages, strides, dilation, block outputs and what is frozen, for every backbone."""

import pytest
import torch
from torch import nn

from fssplat.backbones import (
    BACKBONES,
    Backbone,
    BackboneLayout,
    build_backbone,
    known_backbone,
    require_backbone,
)
from fssplat.common.errors import InputError
from fssplat.experiment.schema import BackboneSpec

NAMES = [*BACKBONES, "timm:resnet18", "timm:convnext_tiny", "timm:mobilenetv3_small_100"]
VGG_STRIDES = (4, 8, 16, 16)


def shapes_only(name: str, **layout: object) -> Backbone:
    """A backbone without values: its maths runs on shapes."""
    with torch.device("meta"):
        return build_backbone(BackboneSpec(name=name, weights="random"), BackboneLayout(**layout))


def random_backbone(name: str, **layout: object) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(BackboneSpec(name=name, weights="random"), BackboneLayout(**layout))


def run(backbone: Backbone, height: int, width: int) -> list[tuple[int, ...]]:
    with torch.device("meta"):
        features = backbone(torch.zeros(2, 3, height, width))
    return [tuple(stage.shape) for stage in features.stages]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_stages_have_the_channels_and_strides_that_are_declared(
    name: str, output_stride: int
) -> None:
    backbone = shapes_only(name, output_stride=output_stride)
    wanted = tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
    assert backbone.strides == (VGG_STRIDES if name.startswith("vgg") else wanted)
    for (b, channels, height, width), declared, stride in zip(
        run(backbone, 96, 160), backbone.channels, backbone.strides, strict=True
    ):
        assert (b, channels) == (2, declared)
        assert (height, width) == (96 // stride, 160 // stride)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(97, 113), (34, 75)])
def test_any_size_passes(name: str, size: tuple[int, int]) -> None:
    for layout in ({"output_stride": 8}, {"blocks": True, "ceil_pools": False}):
        assert len(run(shapes_only(name, **layout), *size)) == 4


@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_given_per_stride_with_their_channels(name: str) -> None:
    backbone = shapes_only(name, blocks=True, ceil_pools=False)
    with torch.device("meta"):
        features = backbone(torch.zeros(1, 3, 64, 96))
    assert len(features.blocks) == 4
    for stage, stride, channels in zip(
        features.blocks, (4, 8, 16, 32), backbone.block_channels, strict=True
    ):
        assert tuple(block.shape[1] for block in stage) == channels
        assert {tuple(block.shape[2:]) for block in stage} == {(64 // stride, 96 // stride)}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("resnet50", (3, 4, 6, 3)),
        ("resnet101", (3, 4, 23, 3)),
        ("vgg16", (3, 3, 3, 1)),
        ("efficientnet_lite0", (2, 2, 6, 5)),
    ],
)
def test_as_many_blocks_as_hsnet_counts(name: str, counts: tuple[int, ...]) -> None:
    assert tuple(map(len, shapes_only(name, blocks=True).block_channels)) == counts


@pytest.mark.parametrize("name", NAMES)
def test_fewer_stages_build_fewer(name: str) -> None:
    whole, part = shapes_only(name), shapes_only(name, stages=3)
    assert part.channels == whole.channels[:3]
    assert len(run(part, 64, 64)) == 3
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize("name", ["resnet50", "vgg16_bn", "efficientnet_lite0", "timm:resnet18"])
def test_one_stage_applied_to_the_one_before_gives_the_next(name: str) -> None:
    backbone = random_backbone(name, output_stride=8)
    stages = backbone(torch.randn(1, 3, 65, 49)).stages
    assert torch.equal(backbone.stage(4, stages[2]), stages[3])
    upto = backbone(torch.zeros(1, 3, 65, 49), upto=2).stages
    assert len(upto) == 2


def dilations(backbone: Backbone, index: int) -> list[int]:
    stage = backbone.get_submodule(f"layer{index}")
    kernels = [m for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert all(m.stride == (1, 1) for m in kernels)
    return [m.dilation[0] for m in kernels]


def test_every_3x3_of_a_dilated_stage_is_dilated_unless_the_first_is_spared() -> None:
    pfenet = shapes_only("resnet50_v2", output_stride=8)
    assert dilations(pfenet, 3) == [2] * 6
    assert dilations(pfenet, 4) == [4] * 3
    mining = shapes_only("resnet50_v2", stages=3, output_stride=8, dilate_first=False)
    assert dilations(mining, 3) == [1] + [2] * 5


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_the_very_last_relu_can_be_left_out(name: str) -> None:
    images = torch.randn(1, 3, 64, 64)
    with_relu = random_backbone(name, stages=3)(images).stages
    without = random_backbone(name, stages=3, last_relu=False)(images).stages
    assert torch.equal(with_relu[1], without[1])
    assert with_relu[2].min() >= 0
    assert name == "vgg16" or without[2].min() < 0  # VGG's group ends in a pool
    if name == "resnet50":
        assert torch.equal(without[2].relu(), with_relu[2])


def test_blocks_are_sums_before_their_relu() -> None:
    features = random_backbone("resnet50", blocks=True)(torch.randn(1, 3, 64, 64))
    for stage, blocks in zip(features.stages, features.blocks, strict=True):
        assert blocks[-1].min() < 0
        assert torch.equal(blocks[-1].relu(), stage)


def test_vgg_pools_round_up_or_down() -> None:
    assert run(shapes_only("vgg16_bn"), 161, 161)[2][2:] == (11, 11)
    assert run(shapes_only("vgg16_bn", ceil_pools=False), 161, 161)[2][2:] == (10, 10)


@pytest.mark.parametrize("name", ["resnet50", "vgg16_bn", "efficientnet_lite0"])
def test_a_frozen_backbone_stays_as_it_is(name: str) -> None:
    backbone = random_backbone(name).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    features = backbone(torch.randn(2, 3, 64, 64))
    assert not any(stage.requires_grad for stage in features.stages)
    assert not any(p.requires_grad for p in backbone.parameters())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_batch_statistics_drift_in_training_only() -> None:
    backbone = random_backbone("resnet50", batch_statistics=True)
    images = torch.randn(2, 3, 64, 64)
    for training in (False, True):
        before = {key: value.clone() for key, value in backbone.named_buffers()}
        features = backbone.train(training)(images)
        changed = [not torch.equal(value, before[key]) for key, value in backbone.named_buffers()]
        assert all(changed) if training else not any(changed)
        assert not features.stages[-1].requires_grad


def test_a_trained_backbone_keeps_its_batch_norm_fixed() -> None:
    backbone = random_backbone("resnet50", stages=3, frozen=False).train()
    features = backbone(torch.randn(2, 3, 64, 64))
    features.stages[-1].sum().backward()
    for name, parameter in backbone.named_parameters():
        fixed = ".bn" in name or "downsample.1" in name or name.startswith(("stem.1.", "stem.bn"))
        assert (parameter.grad is None) == fixed, name
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)


def test_random_values_follow_the_seed_and_leave_the_stream_alone() -> None:
    torch.manual_seed(7)
    first = random_backbone_after(draws=0)
    second = random_backbone_after(draws=5)
    assert torch.equal(first.stem[0].weight, second.stem[0].weight)
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    random_backbone_after(draws=0, seeded=False)
    assert torch.equal(torch.rand(3), wanted)


def random_backbone_after(draws: int, seeded: bool = True) -> Backbone:
    if seeded:
        torch.manual_seed(7)
    torch.rand(draws)
    return build_backbone(BackboneSpec(name="resnet50", weights="random"), BackboneLayout(stages=1))


# ------------------------------------------------------------------ names


def test_known_names_are_known_without_building() -> None:
    assert all(known_backbone(name) for name in NAMES)
    assert not known_backbone("resnet5")
    assert not known_backbone("timm:no_such_model")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'resnet5' is unknown. Did you mean resnet50\?"):
        require_backbone("resnet5")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm:vit_tiny_patch16_224", "strides|one after the other"),
        ("timm:hrnet_w18_small", "one after the other"),
        ("timm:swin_tiny_patch4_window7_224", "channels-first"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"{name}.*({reason})"):
        shapes_only(name)


def test_a_model_that_cannot_be_dilated_is_refused() -> None:
    with pytest.raises(InputError, match="dilate"):
        shapes_only("timm:densenet121", output_stride=8)


@pytest.mark.parametrize("name", ["resnet101", "resnet101_v2"])
def test_features_of_random_weights_stay_of_the_inputs_order(name: str) -> None:
    spec = BackboneSpec(name=name, weights="random")
    network = build_backbone(spec, BackboneLayout(stages=4, output_stride=8)).eval()
    for stage in network(torch.randn(1, 3, 65, 65)).stages:
        assert 0.01 < float(stage.std()) < 10
