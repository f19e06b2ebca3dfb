"""Compares our methods with recorded runs of the public implementations, within float32 noise.

Every tolerance is from the reference facts: 1e-4 on logits and losses, 1e-7 on the distillation
loss, 2e-4 on the losses of MM-Net (batch statistics), 1e-3 on its shot weights, 1 % of a gradient's
norm (5 % where BatchNorm normalises by the batch), 1e-4 of the pixels.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fssplat.methods import METHODS
from fssplat.methods.layers.fusion import fuse_shots
from fssplat.methods.mmnet import MMNet
from tests.fakes.public_cases import (
    LOSSES,
    RECORDED_WEIGHTS,
    Case,
    case_names,
    meta_class_tensors,
)

FAST = (
    "hmfs_resnet50_1shot",
    "hsnet_resnet50_5shot",
    "hsnet_resnet50_train",
    "hsnet_vgg16_1shot",
    "mining_resnet50_5shot",
    "pfenet_resnet50_5shot",
    "pfenet_resnet50_train",
    "pfenet_vgg16bn_1shot",
    "sdaanet_resnet50_1shot",
)
ALLOWED = {"qmm_weights": 1e-3, "qmm_sums": 1e-3}  # sums near 500, and a softmax of them
SUPPORT_FIRST = ("mining",)  # its public code runs the supports before the query


def cases(*kinds: str) -> list[object]:
    """Case names as parameters; those that add little to the fast ones run in the slow tier."""
    names = case_names(*kinds)
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", cases("eval"))
def test_logits_and_inner_tensors_are_those_of_the_public_code(shared: Path, name: str) -> None:
    case = Case(shared, name)
    batch = case.batch
    correlations: list[Tensor] = []
    with torch.no_grad(), case.probes() as seen:
        if "squeeze" in dict(case.network.named_children()):
            case.network.get_submodule("squeeze").register_forward_pre_hook(
                lambda module, inputs: correlations.extend(inputs[0])
            )
        query, supports = case.network.encode_episodes(batch.query, batch.supports, batch.masks)
        size = (batch.query.shape[-2], batch.query.shape[-1])
        logits = case.network.segment(query, supports, batch.masks, size)
        if isinstance(case.network, MMNet):
            seen.update(meta_class_tensors(case.network, query, supports, batch.masks))
        first = batch.supports[:, 0, 0] if case.method in SUPPORT_FIRST else batch.query
        stages = case.network.backbone(first).stages

    assert case.distance(logits, case.expected["logits"]) < 1e-4
    probes = case.record["probes"]
    for level, values in zip((4, 3, 2), correlations, strict=False):
        seen[f"corr_l{level}"] = values
    for index, values in enumerate(stages, start=1):
        seen[f"layer{index}"] = seen[f"backbone.layer{index}"] = values
    compared = probes.keys() & seen.keys()
    assert len(compared) >= 3
    for probe in sorted(compared):
        assert case.distance(seen[probe], probes[probe]) < ALLOWED.get(probe, 1e-4), probe


@pytest.mark.parametrize("name", cases("predict"))
def test_votes_and_masks_of_five_shots_are_those_of_the_public_code(
    shared: Path, name: str
) -> None:
    case = Case(shared, name)
    batch = case.batch
    height, width = case.expected["pred_mask"]["shape"][1:]
    with torch.no_grad():
        query, supports = case.network.encode_episodes(batch.query, batch.supports, batch.masks)
        logits = []
        for k in range(batch.supports.shape[2]):
            one = {key: value[:, :, k : k + 1] for key, value in supports.items()}
            masks = batch.masks[:, :, k : k + 1]
            logits.append(case.network.segment(query, one, masks, (height, width)))
    votes = torch.cat(logits).argmax(dim=1).sum(dim=0).numpy()
    assert np.mean(votes != case.arrays["votes"].reshape(height, width)) <= 1e-4
    mask = fuse_shots(torch.cat(logits), "vote").numpy()
    assert np.mean(mask != case.arrays["pred_mask"].reshape(height, width)) <= 1e-4


@pytest.mark.parametrize("name", cases("train", "train_frozenbn"))
def test_losses_gradients_and_buffers_are_those_of_the_public_code(shared: Path, name: str) -> None:
    case = Case(shared, name)
    network, batch, expected = case.network, case.batch, case.expected
    public_names = case.public_names()
    before = {key: value.clone() for key, value in network.named_buffers()}
    with case.recorded_threads():
        query, supports = network.encode_episodes(batch.query, batch.supports, batch.masks)
    losses = network.losses(query, supports, batch.masks, batch.target)
    total = weighted_sum(case, losses)
    total.backward()

    allowed = 2e-4 if case.method == "mmnet" and network.backbone.batch_statistics else 1e-4
    for public, value in expected["losses"].items():
        ours = total if public == "total" else losses[LOSSES[public]]
        distance = abs(ours.item() * RECORDED_WEIGHTS.get(public, 1.0) - value)
        assert distance < (1e-7 if public == "kd" else allowed), public

    slack = 0.05 if network.backbone.batch_statistics else 0.01
    gradients = {public_names[key]: value.grad for key, value in network.learnable().items()}
    assert gradients.keys() == expected["grad_l2"].keys()
    for public, norm in expected["grad_l2"].items():
        ours = gradients[public]
        assert ours is not None, public
        assert ours.norm().item() == pytest.approx(norm, rel=slack, abs=1e-7), public

    changed = 0
    for key, value in network.named_buffers():
        if key in public_names:
            changed += not torch.equal(value, before[key])
            record = expected.get("buffers_after", {}).get(public_names[key])
            assert record is None or case.distance(value, record) < 1e-4, key
    assert changed == expected["buffers_changed_by_forward"]

    size = (batch.target.shape[-2], batch.target.shape[-1])
    with torch.no_grad():
        logits = network.segment(query, supports, batch.masks, size)
    if "logits" in expected:
        assert case.distance(logits, expected["logits"]) < 1e-4
    if "pred" in expected:
        recorded = case.arrays[expected["pred"]["npz"]]
        assert np.mean(logits.argmax(dim=1).numpy() != recorded) <= 1e-4


def weighted_sum(case: Case, losses: dict[str, Tensor]) -> Tensor:
    """The total loss of the public code."""
    kind = METHODS[case.method]
    weights = {**kind.LOSS_WEIGHTS, **kind.PRESETS["public-code"].get("loss_weights", {})}
    return torch.stack([weights[key] * value for key, value in losses.items()]).sum()
