"""The optimiser of a training, and its learning rate at every step."""

import math

import torch
from torch import nn

from fssplat.experiment.schema import TrainingSpec


def learning_rate(training: TrainingSpec, done: int, steps: int) -> float:
    """Rate of the step that follows `done` finished steps of a training of `steps`.

    The first step (done = 0) has `training.lr`. PFENet's code counts its first step as 1, so its
    last has rate 0; counting from 0 changes no rate by more than one step's share.
    """
    if training.schedule == "poly":
        return training.lr * poly(done, steps, training.power)
    if training.schedule == "step":
        reached = passed(training.milestones, done, steps)
        return training.lr * math.pow(training.gamma, reached)
    return training.lr


def poly(done: int, steps: int, power: float) -> float:
    """(1 - done / steps)^power, and 0 after the last step."""
    return math.pow(max(0.0, 1.0 - done / steps), power)


def passed(milestones: tuple[float, ...], done: int, steps: int) -> int:
    """How many milestones, given as shares of the training, are at or before this step."""
    return sum(done >= round(share * steps) for share in milestones)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def build_optimizer(
    parameters: dict[str, nn.Parameter], training: TrainingSpec, momentum: float
) -> torch.optim.Optimizer:
    """SGD with the method's momentum, or Adam; weight decay on every learnable parameter."""
    chosen = list(parameters.values())
    if training.optimizer == "adam":
        return torch.optim.Adam(chosen, lr=training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        chosen, lr=training.lr, momentum=momentum, weight_decay=training.weight_decay
    )


def steps_of(training: TrainingSpec, episodes_per_epoch: int) -> int:
    """Optimiser steps of a training; an epoch's last, incomplete batch is left out as in PFENet."""
    if training.steps is not None:
        return training.steps
    assert training.epochs is not None
    return training.epochs * max(1, episodes_per_epoch // training.batch)
