"""The parity cases: networks of the public implementations, rebuilt under our names.

Weights and episodes come from `recipe.py` beside the cases, which is not copied here.
"""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fssplat.data.batch import EpisodeBatch
from fssplat.experiment.schema import BackboneSpec, MethodSpec
from fssplat.methods import METHODS, FewShotSegmenter, build_method
from fssplat.methods.base import Encoded
from fssplat.methods.import_public import PUBLIC, load_public, renamed
from fssplat.methods.layers.matching import grid_mask, mean_best_match
from fssplat.methods.layers.meta_classes import (
    Memory,
    fuse_by_quality,
    matched,
    quality,
    similarities,
)
from fssplat.methods.mmnet import MMNet

CASES = Path(__file__).resolve().parents[3] / "shared" / "parity" / "cases"
DEEP_STEM = ("pfenet", "mining", "mmnet")
LOSSES = {
    "main": "segmentation",
    "aux": "auxiliary",
    "kd": "distillation",
    "reconstruction": "reconstruction",
    "support": "support",
}
RECORDED_WEIGHTS = {"reconstruction": 0.1}  # weights that the public code applies in the network
# Probed modules of the public code -> ours; their outputs are compared call by call.
MODULES = {
    "down_query": "reduce_query",
    "down_supp": "reduce_support",
    "down_query_level_2": "memories.0.read_query",
    "down_supp_level_2": "memories.0.read_support",
    "beta_conv.0": "decoder.refine.0",
    "beta_conv.3": "decoder.refine.3",
    "res1": "decoder.gather",
    "res2": "decoder.polish",
    "hpn_learner.encoder_layer4": "squeeze.encoders.0",
    "hpn_learner.encoder_layer3": "squeeze.encoders.1",
    "hpn_learner.encoder_layer2": "squeeze.encoders.2",
    "hpn_learner.encoder_layer4to3": "squeeze.mixers.0",
    "hpn_learner.encoder_layer3to2": "squeeze.mixers.1",
    "hpn_learner.decoder1": "squeeze.decoder",
}


def case_names(*kinds: str) -> list[str]:
    """Cases of these kinds whose method is registered; none if the shared folder is missing."""
    names = []
    for path in sorted(CASES.glob("*.json")) if CASES.is_dir() else []:
        record = json.loads(path.read_text())
        if record["kind"] in kinds and record["model"] in METHODS and record["model"] in PUBLIC:
            names.append(path.stem)
    return names


def load_recipe(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe", shared / "parity" / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Case:
    """One recorded run of a public implementation, and our network with its weights."""

    def __init__(self, shared: Path, name: str) -> None:
        self.recipe = load_recipe(shared)
        path = shared / "parity" / "cases" / f"{name}.json"
        self.record, self.arrays, self.shapes, self.episode = self.recipe.load_case(str(path))
        self.expected: dict[str, Any] = self.record["expected"]
        self.method = self.record["model"]
        self.backbone = backbone_name(self.method, self.record["constructor"])
        self.network = self._build()

    def _build(self) -> FewShotSegmenter:
        preset = METHODS[self.method].PRESETS.get("public-code", {})
        options = dict(preset.get("options", {}))
        if "ppm_scales" in self.record["constructor"]:
            options["bins"] = self.record["constructor"]["ppm_scales"]
        if self.record["kind"] == "train_frozenbn":
            options["batch_norm"] = "fixed"
        spec = MethodSpec(name=self.method, options=options)
        network = build_method(spec, BackboneSpec(name=self.backbone, weights="random"))
        state = self.recipe.fill_state_dict(self.shapes)
        load_public(network, self.method, self.backbone, state, self.record["case"])
        for module in network.modules():  # dropout is off in the training cases
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.p = 0.0
        return network.train(self.record["kind"].startswith("train"))

    @property
    def batch(self) -> EpisodeBatch:
        """The episode with one way."""
        episode = self.episode
        return EpisodeBatch(
            query=episode["query_img"],
            target=episode["query_mask"].long(),
            supports=episode["support_imgs"].unsqueeze(1),
            masks=episode["support_masks"].long().unsqueeze(1),
        )

    def public_names(self) -> dict[str, str]:
        """Our name of every entry -> the public one."""
        marks = {name: torch.tensor(number) for number, name in enumerate(self.shapes)}
        ours, strange = renamed(self.method, self.backbone, marks)
        assert not strange
        names = list(self.shapes)
        return {name: names[int(mark)] for name, mark in ours.items()}

    def distance(self, ours: Tensor, record: dict[str, Any]) -> float:
        """Largest difference to a recorded tensor: its kept pixels, else its sampled values."""
        assert list(ours.shape) == record["shape"]
        if "npz" in record:
            stride = record.get("stride", 1)
            kept = ours.detach().numpy()[..., ::stride, ::stride]
            return float(np.abs(kept - self.arrays[record["npz"]]).max())
        pairs = zip(self.recipe.checksum(ours)["samples"], record["samples"], strict=True)
        return max(abs(a - b) for a, b in pairs)

    @contextmanager
    def recorded_threads(self) -> Iterator[None]:
        """As many threads as the recording had: batch statistics are sums, rounded by thread."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.record["made_with"]["threads"])
        yield
        torch.set_num_threads(before)

    @contextmanager
    def probes(self) -> Iterator[dict[str, Tensor]]:
        """Outputs of probed modules by public name while the block runs: `NAME`, `NAME#1`, ..."""
        seen: dict[str, Tensor] = {}
        hooks = [
            self._module(name).register_forward_hook(self._recorder(name, seen))
            for name in MODULES
            if name in self.record["probes"]
        ]
        yield seen
        for hook in hooks:
            hook.remove()

    def _module(self, public: str) -> nn.Module:
        return self.network.get_submodule(MODULES[public])

    def _recorder(self, name: str, seen: dict[str, Tensor]) -> Any:
        batch, shots = self.record["episode"]["batch"], self.record["episode"]["shots"]

        def record(module: nn.Module, inputs: object, output: Tensor) -> None:
            # The public code runs shot after shot, ours all at once but for drifting statistics.
            together = name.startswith("down_supp") and len(output) == batch * shots
            for value in output.unflatten(0, (batch, shots)).unbind(1) if together else (output,):
                call = sum(key.partition("#")[0] == name for key in seen)
                seen[f"{name}#{call}" if call else name] = value

        return record


def meta_class_tensors(
    network: MMNet, query: Encoded, supports: Encoded, masks: Tensor
) -> dict[str, Tensor]:
    """Inner tensors of MM-Net's public form by the names of the probes."""
    memory, of_supports = network.memories[0], supports["f0"][:, 0]
    assert isinstance(memory, Memory)
    grid = (of_supports.shape[-2], of_supports.shape[-1])
    products = memory.products(query["f0"])
    shots = [memory.products(feature) for feature in of_supports.unbind(1)]
    mask = grid_mask(masks[:, 0, -1], grid)
    similar = [similarities(products, shot, mask) for shot in shots]
    found = [matched(e, shot.sigmoid(), grid) for e, shot in zip(similar, shots, strict=True)]
    sums = torch.stack([quality(e, grid) for e in similar], dim=1)
    chosen = memory.products(of_supports[:, 0]).softmax(dim=1)
    rebuilt = torch.einsum("imhw,dm->idhw", chosen, memory.embeddings[0])
    apm = fuse_by_quality(torch.stack(found, dim=1), sums)
    return {
        "fcm": mean_best_match(query["high"], supports["high"][:, 0]).unsqueeze(1),
        "memory_query": products.sigmoid(),
        "memory_support_products_last": shots[-1].flatten(2),
        "memory_support_last": shots[-1].sigmoid().flatten(2),
        "reconstruction_first_support": rebuilt.flatten(2),
        "qmm_sums": sums.flatten(2),
        "qmm_weights": sums.softmax(dim=1),
        "apm": apm,
        "merged_activation": products.sigmoid() * apm,
        **{f"apm_shot{k}": item.unsqueeze(1) for k, item in enumerate(found)},
    }


def backbone_name(method: str, constructor: dict[str, Any]) -> str:
    """Our name for the backbone that a case was built with."""
    if constructor.get("vgg"):
        return "vgg16_bn"
    name = str(constructor.get("backbone", f"resnet{constructor.get('layers')}"))
    return f"{name}_v2" if method in DEEP_STEM else name
