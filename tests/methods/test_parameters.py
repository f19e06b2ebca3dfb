"""Exact parameter counts of the public models; the networks are built on the meta device."""

import pytest
import torch

from fssplat.experiment.schema import BackboneSpec, MethodSpec
from fssplat.methods import METHODS, build_method

# method, backbone, learnable, frozen; without unused ImageNet classifiers
COUNTED = [
    ("pfenet", "resnet50_v2", 10_817_034, 23_631_808),
    ("pfenet", "resnet101_v2", 10_817_034, 42_623_936),
    ("pfenet", "vgg16_bn", 10_423_818, 14_723_136),
    ("sdaanet", "resnet50", 21_341_261, 23_508_032),
    ("sdaanet", "resnet101", 21_341_261, 42_500_160),
    ("sdaanet", "vgg16_bn", 20_948_045, 14_723_136),
    ("hsnet", "resnet50", 2_573_794, 23_508_032),
    ("hsnet", "resnet101", 2_587_394, 42_500_160),
    ("hsnet", "vgg16", 2_570_018, 14_714_688),
    ("hmfs", "resnet50", 2_573_794, 23_508_032),
    ("hmfs", "resnet101", 2_587_394, 42_500_160),
    ("hmfs", "vgg16", 2_570_018, 14_714_688),
    # MM-Net's public model also has 131,584 parameters that it never uses
    ("mmnet", "resnet50_v2", 10_488_330 - 131_584, 23_631_808),
    ("mmnet", "resnet101_v2", 10_488_330 - 131_584, 42_623_936),
    ("mmnet", "vgg16_bn", 10_095_114 - 131_584, 14_723_136),
    ("mining", "resnet50_v2", 8_636_096, 30_976),
    ("mining", "resnet101_v2", 27_576_000, 83_200),
]


@pytest.mark.parametrize(("name", "backbone", "learnable", "frozen"), COUNTED)
def test_parameters_are_as_many_as_in_the_public_models(
    name: str, backbone: str, learnable: int, frozen: int
) -> None:
    options = METHODS[name].PRESETS["public-code"].get("options", {})
    with torch.device("meta"):
        spec = MethodSpec(name=name, options=dict(options))
        network = build_method(spec, BackboneSpec(name=backbone, weights="random"))
    counted = sum(parameter.numel() for parameter in network.learnable().values())
    everything = sum(parameter.numel() for parameter in network.parameters())
    assert counted == learnable
    assert everything - counted == frozen
