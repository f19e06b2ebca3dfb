"""Methods outside the package: the example of docs/add-a-method.md is built and launched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fssplat.common.errors import InputError
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.sources.record import SourceOptions
from fssplat.experiment.schema import BackboneSpec, MethodSpec
from fssplat.methods import METHODS, build_method, method_named, methods_named
from tests.fakes.method_inputs import random_episodes

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NAME = "nearest_support:NearestSupport"


def test_a_class_outside_the_package_is_a_method_by_module_and_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    assert set(methods_named(["panet", NAME])) == {*METHODS, NAME}
    spec, backbone = MethodSpec(name=NAME), BackboneSpec(name="efficientnet_lite0")
    network = build_method(spec, backbone.model_copy(update={"weights": "random"}))
    batch = random_episodes(b=2, k=2, side=65)
    losses = network.training_losses(batch)
    losses["segmentation"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.learnable().values())
    assert set(network.learnable()) == {"project.weight", "project.bias"}
    with torch.no_grad():
        assert network(batch.query, batch.supports, batch.masks).shape == (2, 2, 65, 65)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:Method", "put its folder in PYTHONPATH"),
        ("fssplat.methods:Nothing", "no class Nothing"),
        ("fssplat.experiment.schema:Spec", "FewShotSegmenter. See docs/add-a-method.md"),
        ("panett", "Did you mean panet?"),
    ],
)
def test_the_error_for_a_wrong_method_name_gives_the_reason(name: str, says: str) -> None:
    with pytest.raises(InputError, match="method") as caught:
        method_named(name)
    assert says in str(caught.value)


@pytest.mark.slow
def test_the_example_is_launched_and_scored(tmp_path: Path) -> None:
    options = SourceOptions(train_images=24, val_images=40)
    build("synthetic", out=tmp_path / "synthetic", settings=BuildSettings(options=options))
    settings = [
        f"store={tmp_path}/store", "tracking=none", f"datasets.synthetic.root={tmp_path}/synthetic",
        "training.steps=2", "training.size=65", "training.batch=2", "evaluation.panels=0",
        "protocol.episodes=4", "protocol.min_area=1", "protocol.min_area_query=1",
        "protocol.size=65", "protocol.short_classes=drop",
        "backbones.efficientnet_lite0={name: efficientnet_lite0, weights: random}",
    ]  # fmt: skip
    changes = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-c", "from fssplat.cli import main; main()", "launch"]
    done = subprocess.run(
        [*command, str(EXAMPLES / "nearest_support.yaml"), *changes],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    specs = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("*/spec.json")]
    assert {spec["method"]["name"] for spec in specs} == {"prior", NAME}
    assert len(list((tmp_path / "store").glob("*/result.json"))) == 2
