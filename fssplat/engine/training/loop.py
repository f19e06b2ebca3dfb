"""The one training loop: steps, exact resume, stops, and what is due between two steps.

Inside a step nothing waits for the device: losses stay there as tensors and are read every
`fetch_steps` steps.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from fssplat.data.batch import EpisodeBatch
from fssplat.engine.checkpoint import Header
from fssplat.engine.device import deterministic, reset_peak_memory
from fssplat.engine.events import Emit, TrainingDone, TrainingStarted, WeightsScored, ignore
from fssplat.engine.random_state import random_state, restore_random_state, seed_everything
from fssplat.engine.settings import Interrupted, RunSettings, Stop, never
from fssplat.engine.training.losses import UnreadLosses
from fssplat.engine.training.persistence import TrainingFolder
from fssplat.engine.training.selection import Selection, keep_if_best
from fssplat.engine.training.state import initial_state
from fssplat.engine.training.step import TrainingStep
from fssplat.experiment.trial import Trial
from fssplat.methods.base import FewShotSegmenter


class TrainingData(Protocol):
    """Training episodes, as a pure function of the trial and the step."""

    def steps(self, trial: Trial) -> int:
        """Optimiser steps of the training."""
        ...

    def batches(
        self, trial: Trial, first_step: int, steps: int, settings: RunSettings
    ) -> Iterator[EpisodeBatch]:
        """The batches of steps `first_step` to `steps` - 1; a step's batch depends neither on
        `first_step` nor on how many processes load the batches."""
        ...


def train(
    network: FewShotSegmenter,
    trial: Trial,
    data: TrainingData,
    folder: Path,
    emit: Emit = ignore,
    stop: Stop = never,
    settings: RunSettings | None = None,
    key: str = "",
    selection: Selection | None = None,
) -> Header:
    """Train to the end; the weights to be scored are then in the network and in the folder.

    Resumes from the newest whole checkpoint, step for step as if never interrupted; a finished
    training is only read back. Returns the header of `weights.safetensors`; its state has the
    `cost` of the training and, if weights are selected, the `best` step and its score.
    Raises Interrupted, Diverged, or InputError if one episode does not fit the device.
    """
    settings = settings or RunSettings()
    network.to(settings.device)
    steps = data.steps(trial) if type(network).TRAINED else 0
    training = Training(network, trial, steps, folder, emit, settings, key, selection)
    with deterministic(settings.deterministic):
        if not training.folder.finished():
            training.folder.resume(training.state)
            training.advance(steps, data, stop)
    header = training.folder.deliver(training.state)
    cost = header.state["cost"]
    peak = int(cost["train_peak_memory_bytes"])
    emit(TrainingDone(cost["train_seconds"], peak, training.folder.final))
    return header


class Training:
    """One training: its state, the step that changes it, and the folder that keeps it."""

    def __init__(
        self,
        network: FewShotSegmenter,
        trial: Trial,
        steps: int,
        folder: Path,
        emit: Emit,
        settings: RunSettings,
        key: str,
        selection: Selection | None,
    ) -> None:
        self.trial, self.steps, self.emit, self.settings = trial, steps, emit, settings
        self.selection = selection
        header = Header(key, trial.method.name, trial.backbone.name, 0, steps)
        self.state = initial_state(network, trial, steps)
        self.step = TrainingStep(self.state, trial, steps, settings.device)
        self.folder = TrainingFolder(folder, header, settings.device)
        self.losses = UnreadLosses(self.folder.log, emit, self.step.learning_rate)

    def advance(self, until: int, data: TrainingData, stop: Stop) -> None:
        """Take the steps up to `until`. Draws between two calls change no later step."""
        state, device = self.state, self.settings.device
        learnable = sum(p.numel() for p in state.parameters.values())
        self.emit(TrainingStarted(self.folder.header.key, self.steps, state.step, learnable))
        reset_peak_memory(device)
        batches = self._batches(until, data)
        batch = next(batches, None)  # starting the stream may draw, so states are set after it
        self._set_random_state()
        state.network.train()
        while state.step < until:
            if stop():
                self.save()
                raise Interrupted(state.step)
            assert batch is not None, f"the stream ended at step {state.step} of {until}"
            started = time.monotonic()
            self.losses.add(self.step.take(batch.to(device)))
            batch = next(batches, None) if state.step < until else None
            self._between_steps()
            state.seconds += time.monotonic() - started
        self._read_losses()
        state.random = random_state(device)

    def save(self) -> None:
        """Write a checkpoint. Raises Diverged instead if a loss is not finite."""
        self._read_losses()
        self.folder.save(self.state)

    def _batches(self, until: int, data: TrainingData) -> Iterator[EpisodeBatch]:
        if self.state.step >= until:  # without a step to take, no episodes are needed either
            return iter(())
        return iter(data.batches(self.trial, self.state.step, until, self.settings))

    def _set_random_state(self) -> None:
        if self.state.random is None:
            seed_everything(self.trial.training.seed)
        else:
            restore_random_state(self.state.random, self.settings.device)

    def _between_steps(self) -> None:
        """Read losses, select weights and save, each if it is due."""
        state = self.state
        if len(self.losses) >= self.settings.fetch_steps:
            self._read_losses()
        if self.selection is not None and self.selection.due(state.step, self.steps):
            score = keep_if_best(self.selection, state, self.folder, self.settings.device)
            self.save()
            self.emit(WeightsScored(state.step, score))
        if self.folder.is_save_due(state.step, self.settings):
            self.save()

    def _read_losses(self) -> None:
        self.losses.read(self.state.step, self.step.names)
