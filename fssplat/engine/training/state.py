"""Everything that the next step of a training depends on; a checkpoint keeps all of it."""

from dataclasses import dataclass, field

import torch
from torch import nn

from fssplat.engine.random_state import RandomState
from fssplat.engine.training.schedule import build_optimizer
from fssplat.experiment.trial import Trial
from fssplat.methods.base import FewShotSegmenter


@dataclass
class TrainingState:
    """The state of a training between two steps."""

    network: FewShotSegmenter
    parameters: dict[str, nn.Parameter]  # that training changes, by their name in the network
    optimizer: torch.optim.Optimizer | None  # None if there are no steps to take
    micro_batch: int  # episodes per backward pass, at most; halved if memory runs out
    step: int = 0  # finished optimiser steps
    seconds: float = 0.0  # spent in steps, over all parts of an interrupted training
    best: dict[str, float] = field(default_factory=dict)  # step and score of the selected weights
    random: RandomState | None = None  # None: the training seed sets the generators


def initial_state(network: FewShotSegmenter, trial: Trial, steps: int) -> TrainingState:
    """The state before the first of `steps` steps."""
    parameters, training = network.learnable(), trial.training
    optimizer = build_optimizer(parameters, training, trial.method.sgd_momentum) if steps else None
    micro_batch = min(training.micro_batch or training.batch, training.batch)
    return TrainingState(network, parameters, optimizer, micro_batch)
