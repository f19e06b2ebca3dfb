"""The learning rate and the optimiser."""

import pytest
import torch
from torch import nn

from fssplat.engine.training.schedule import (
    build_optimizer,
    learning_rate,
    set_learning_rate,
    steps_of,
)
from fssplat.experiment.schema import TrainingSpec


def test_poly_starts_at_the_rate_and_falls_to_zero() -> None:
    training = TrainingSpec(steps=100, lr=0.1, schedule="poly", power=0.5)
    assert learning_rate(training, 0, 100) == 0.1
    assert learning_rate(training, 75, 100) == pytest.approx(0.05)
    assert learning_rate(training, 100, 100) == 0.0


def test_step_divides_at_its_milestones() -> None:
    training = TrainingSpec(steps=6, lr=1.0, schedule="step", milestones=(1 / 3, 2 / 3), gamma=0.1)
    rates = [learning_rate(training, done, 6) for done in range(6)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_constant_rate_never_changes() -> None:
    training = TrainingSpec(steps=6, lr=1e-3)
    assert {learning_rate(training, done, 6) for done in range(6)} == {1e-3}


def test_epochs_become_steps_without_the_incomplete_batch() -> None:
    assert steps_of(TrainingSpec(epochs=3, batch=4), 10) == 6
    assert steps_of(TrainingSpec(epochs=3, batch=40), 10) == 3
    assert steps_of(TrainingSpec(steps=7), 10) == 7


def test_sgd_takes_the_methods_momentum() -> None:
    layer = nn.Linear(1, 1, bias=False)
    training = TrainingSpec(steps=2, lr=0.5, weight_decay=0.0)
    optimizer = build_optimizer(dict(layer.named_parameters()), training, momentum=0.5)
    nn.init.ones_(layer.weight)
    for expected in (0.5, -0.25):  # steps of 0.5 x 1, then 0.5 x (1 + 0.5)
        optimizer.zero_grad()
        layer(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        assert layer.weight.item() == expected


def test_the_rate_is_set_on_every_group() -> None:
    layer = nn.Linear(1, 1)
    training = TrainingSpec(steps=2, optimizer="adam", lr=0.5)
    optimizer = build_optimizer(dict(layer.named_parameters()), training, momentum=0.9)
    set_learning_rate(optimizer, 0.25)
    assert isinstance(optimizer, torch.optim.Adam)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]
