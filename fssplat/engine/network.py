"""Build the network of a trial as its training starts with it."""

import torch

from fssplat.engine.device import use_channels_last
from fssplat.engine.random_state import seed_everything
from fssplat.experiment.trial import Trial
from fssplat.methods import build_method
from fssplat.methods.base import FewShotSegmenter


def fresh_network(trial: Trial, device: torch.device | None = None) -> FewShotSegmenter:
    """Backbone with its given weights, head as the training seed draws it, on `device` if given."""
    seed_everything(trial.training.seed)
    network = build_method(trial.method, trial.backbone)
    if device is not None:
        network.to(device)
    use_channels_last(network.backbone)
    return network
