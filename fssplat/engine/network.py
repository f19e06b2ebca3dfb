"""The network of a trial, as its training starts with it, and the number of its parameters."""

from collections.abc import Iterable

import torch
from torch import nn

from fssplat.engine.device import use_channels_last
from fssplat.engine.random_state import seed_everything
from fssplat.experiment.trial import Trial
from fssplat.methods import build_method
from fssplat.methods.base import FewShotSegmenter

COUNTS = ("learnable_parameters", "test_parameters", "total_parameters")


def fresh_network(trial: Trial, device: torch.device | None = None) -> FewShotSegmenter:
    """Backbone with its given weights, head as the training seed draws it, on `device` if given."""
    seed_everything(trial.training.seed)
    network = build_method(trial.method, trial.backbone)
    if device is not None:
        network.to(device)
    use_channels_last(network.backbone)
    return network


def parameter_counts(network: FewShotSegmenter) -> dict[str, float]:
    """The numbers of parameters, by the name of the metric:

    learnable_parameters  those that training changes, its auxiliary layers included
    test_parameters       those that the network keeps to predict, a fixed backbone included
    total_parameters      all that the network has while it is trained

    Buffers, such as the statistics of a BatchNorm or base prototypes, are no parameters.
    """
    counts = (
        _number(network.learnable().values()),
        _number(network.prediction_parameters()),
        _number(network.parameters()),
    )
    return dict(zip(COUNTS, map(float, counts), strict=True))


def _number(parameters: Iterable[nn.Parameter]) -> int:
    """The elements of all parameters; one that occurs twice counts once."""
    return sum(one.numel() for one in {id(one): one for one in parameters}.values())
