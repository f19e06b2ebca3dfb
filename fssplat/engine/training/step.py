"""One optimiser step: forward and backward in micro-batches, weighted losses, update."""

import torch
from torch import Tensor, nn

from fssplat.common.errors import InputError
from fssplat.data.batch import EpisodeBatch
from fssplat.engine import checkpoint
from fssplat.engine.device import autocast, free_cached_memory
from fssplat.engine.random_state import RandomState, random_state, restore_random_state
from fssplat.engine.training import schedule
from fssplat.engine.training.state import TrainingState
from fssplat.experiment.trial import Trial
from fssplat.methods.base import FewShotSegmenter


class TrainingStep:
    """Takes the steps of one training, one after another."""

    def __init__(
        self, state: TrainingState, trial: Trial, steps: int, device: torch.device
    ) -> None:
        self.state, self.trial, self.steps, self.device = state, trial, steps, device
        self.owners = owners_of_buffers(state.network)  # a step may write to these buffers
        self.fewest = state.network.fewest_episodes(state.network.options)  # of a backward pass
        self.names: tuple[str, ...] = ()  # of the losses,
        self.factors = torch.empty(0)  # and their weights, on the device

    def take(self, batch: EpisodeBatch) -> Tensor:
        """One step. Returns [losses + 1]: the losses in the order of `names`, then their weighted
        sum. They are still on the device.

        If memory runs out, the step is repeated with the same batch in smaller micro-batches.
        Raises InputError if the smallest micro-batch does not fit.
        """
        state = self.state
        assert state.optimizer is not None
        losses = self._fitting_backward(batch, state.optimizer)
        schedule.set_learning_rate(state.optimizer, self.learning_rate(state.step))
        state.optimizer.step()
        state.step += 1
        state.network.after_step(state.step, self.steps, self.trial.method.momentum)
        return losses

    def learning_rate(self, done: int) -> float:
        """Rate of the step that follows `done` finished steps."""
        return schedule.learning_rate(self.trial.training, done, self.steps)

    # -------------------------------------------------------------- forward and backward

    def _backward(self, batch: EpisodeBatch, optimizer: torch.optim.Optimizer) -> Tensor:
        """Gradients of the whole batch; returns its losses and their weighted sum, detached.

        A micro-batch counts by its share of the episodes.
        """
        training, state = self.trial.training, self.state
        optimizer.zero_grad(set_to_none=True)
        rows = []
        for part in batch.split(sizes_of_parts(len(batch), state.micro_batch, self.fewest)):
            share = len(part) / len(batch)
            with autocast(self.device, training.precision):
                losses = state.network.training_losses(part)
            values = torch.stack([value.float() for value in losses.values()])
            total = values @ self._weights_of(tuple(losses))
            (total * share).backward()  # type: ignore[no-untyped-call]
            rows.append(torch.cat([values.detach(), total.detach().view(1)]) * share)
        if training.clip is not None:
            torch.nn.utils.clip_grad_norm_(state.parameters.values(), training.clip)
        return torch.stack(rows).sum(dim=0)

    def _weights_of(self, names: tuple[str, ...]) -> Tensor:
        """The losses' weights; kept on the device, since a copy there would stall every step."""
        if names != self.names:
            self.names, weights = names, self.trial.method.loss_weights
            values = [weights[name] for name in names]
            self.factors = torch.tensor(values, device=self.device)
        return self.factors

    # -------------------------------------------------------------- lack of memory

    def _fitting_backward(self, batch: EpisodeBatch, optimizer: torch.optim.Optimizer) -> Tensor:
        """`_backward`, repeated with smaller micro-batches until one fits into memory."""
        random = random_state(self.device)
        buffers = [value.clone() for value in self._buffers()]
        while True:
            try:
                return self._backward(batch, optimizer)
            except torch.OutOfMemoryError:
                self._halve_micro_batch(batch)
            # outside `except`, where the failed graph is already free
            self._undo(optimizer, random, buffers)

    def _halve_micro_batch(self, batch: EpisodeBatch) -> None:
        tried = max(sizes_of_parts(len(batch), self.state.micro_batch, self.fewest))
        if tried < 2 * self.fewest:
            fewest = "one training episode" if tried == 1 else f"{tried} training episodes at once"
            raise InputError(
                f"{self.trial.title}: {fewest} of {self.trial.training.size} pixels does not fit "
                "into the device's memory, and the method needs that many. Lower training.size, "
                "set training.precision=bf16, or give the job a larger device."
            )
        self.state.micro_batch = tried // 2

    def _undo(
        self, optimizer: torch.optim.Optimizer, random: RandomState, buffers: list[Tensor]
    ) -> None:
        """Undo what a failed attempt drew, wrote to buffers and left in memory."""
        optimizer.zero_grad(set_to_none=True)
        free_cached_memory(self.device)
        restore_random_state(random, self.device)
        for buffer, before in zip(self._buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _buffers(self) -> list[Tensor]:
        return [owner.get_buffer(name) for owner, name in self.owners]


def sizes_of_parts(episodes: int, most: int, least: int) -> list[int]:
    """Sizes of the micro-batches of a batch: at most `most` episodes each, nearly equal.

    None has fewer than `least`, even if one then exceeds `most`.
    """
    parts = max(1, min(-(-episodes // most), episodes // least))
    return [episodes // parts + (part < episodes % parts) for part in range(parts)]


def owners_of_buffers(network: FewShotSegmenter) -> list[tuple[nn.Module, str]]:
    """(module, name) of every buffer that a checkpoint keeps; found once, read in every step."""
    kept = checkpoint.weights(network)
    return [
        (network.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
        for name, _ in network.named_buffers()
        if name in kept
    ]
