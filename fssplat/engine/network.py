"""A trial's network at its seed's start."""

import torch

from fssplat.engine import device as determinism
from fssplat.experiment.grid import Trial
from fssplat.methods import build_method
from fssplat.methods.base import FewShotSegmenter


def fresh_network(trial: Trial, device: torch.device | None = None) -> FewShotSegmenter:
    """Backbone weights in, the head as the training seed draws it, laid out for speed."""
    determinism.seed_everything(trial.training.seed)
    network = build_method(trial.method, trial.backbone)
    if device is not None:
        network.to(device)
    network.backbone.to(memory_format=torch.channels_last)  # 1.2 x faster on CPU, bf16 1.4 x
    return network
