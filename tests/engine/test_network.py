"""Parameters as the papers' tables count them; the networks are built on the meta device."""

import pytest
import torch

from fssplat.engine.network import parameter_counts
from fssplat.experiment.schema import BackboneSpec, MethodSpec
from fssplat.methods import build_method

# method, backbone, options -> learnable, at test, in all
COUNTED = [
    # MiningFSS, Table 1 and 7: 34.3 M of PFENet and 8.7 M of its own "during testing time"
    ("pfenet", "resnet50_v2", {}, 10_817_034, 34_448_842, 34_448_842),
    ("mining", "resnet50_v2", {}, 11_587_782, 8_667_072, 20_285_830),
    ("mining", "resnet50_v2", {"ema": False}, 11_587_782, 8_667_072, 11_618_758),
    ("mining", "resnet50_v2", {"mine": False}, 8_636_096, 8_667_072, 17_334_144),
    # SD-AANet, Table III: 21.3 M learnable
    ("sdaanet", "resnet50", {}, 21_341_261, 44_849_293, 44_849_293),
    ("prior", "resnet50", {}, 0, 23_508_032, 23_508_032),
]


@pytest.mark.parametrize(("name", "backbone", "options", "learnable", "test", "total"), COUNTED)
def test_parameters_are_counted_in_training_at_test_and_in_all(
    name: str, backbone: str, options: dict[str, object], learnable: int, test: int, total: int
) -> None:
    with torch.device("meta"):
        spec = MethodSpec(name=name, options=options)
        network = build_method(spec, BackboneSpec(name=backbone, weights="random"))
    assert parameter_counts(network) == {
        "learnable_parameters": learnable,
        "test_parameters": test,
        "total_parameters": total,
    }
