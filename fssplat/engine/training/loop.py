"""The one training loop: optimiser steps, exact resume, and a path for every way it can fail.

Inside a step nothing waits for the device: losses stay there as tensors and are read every
`fetch_steps` steps, where they are also checked to be finite.
"""

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from fssplat.common.errors import InputError
from fssplat.common.whole_files import write_json
from fssplat.data.batch import EpisodeBatch
from fssplat.engine import checkpoint
from fssplat.engine.checkpoint import Header
from fssplat.engine.device import (
    autocast,
    deterministic,
    free_cached_memory,
    peak_memory,
    reset_peak_memory,
)
from fssplat.engine.events import Emit, StepDone, TrainingDone, TrainingStarted, ignore
from fssplat.engine.random_state import (
    RandomState,
    kept_random_state,
    random_state,
    restore_random_state,
    seed_everything,
)
from fssplat.engine.settings import Diverged, Interrupted, RunSettings, Stop, never
from fssplat.engine.training import schedule
from fssplat.engine.training.loss_curve import LossLog
from fssplat.experiment.grid import Trial
from fssplat.methods.base import FewShotSegmenter


class TrainingData(Protocol):
    """Where training episodes come from; a pure function of the trial and the step."""

    def steps(self, trial: Trial) -> int:
        """Optimiser steps of the run."""
        ...

    def batches(
        self, trial: Trial, first_step: int, steps: int, settings: RunSettings
    ) -> Iterator[EpisodeBatch]:
        """The batches of steps `first_step` to `steps` - 1: the same whatever the first step is
        and however many processes load them."""
        ...


class Selection(Protocol):
    """Which weights of a run are kept, where not the last."""

    def due(self, step: int, steps: int) -> bool: ...

    def score(self, network: FewShotSegmenter) -> float: ...


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
    """Train to the end and leave the weights to be scored in the network and in the folder.

    Goes on from the newest whole checkpoint, step for step as if never interrupted; a finished
    training is only read back. Returns the header of `weights.safetensors`; its state has the
    `cost` of the training and, where weights are selected, the `best` step and its score.
    Raises Interrupted, Diverged, or InputError where one episode does not fit the device.
    """
    settings = settings or RunSettings()
    network.to(settings.device)
    steps = data.steps(trial) if type(network).TRAINED else 0
    run = Training(network, trial, steps, folder, emit, settings, key, selection)
    with deterministic(settings.deterministic):
        if not run.finished():
            run.resume()
            run.to_the_end(data, stop)
    return run.deliver()


class Training:
    """The state of one run between two steps."""

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
        self.network, self.trial, self.folder = network, trial, folder
        self.emit, self.settings, self.selection = emit, settings, selection
        self.training = trial.training
        self.header = Header(key, trial.method.name, trial.backbone.name, 0, steps)
        self.parameters = network.learnable()
        self.owners = owners_of_buffers(network)  # of what a step may write besides parameters
        self.least = network.fewest_episodes(network.options)  # of a backward pass
        self.step = 0  # finished steps
        self.micro_batch = self.training.micro_batch or self.training.batch
        self.seconds = 0.0  # spent in steps, over all parts of an interrupted run
        self.best: dict[str, float] = {}  # step and score of the selected weights
        self.random: RandomState | None = None
        self.names: tuple[str, ...] = ()  # of the losses, and their weights beside them
        self.factors = torch.empty(0)
        self.unread: list[Tensor] = []  # losses of finished steps, still on the device
        self.log = LossLog(folder)
        self.saved = (0, time.monotonic())  # step and time of the last checkpoint
        if steps:
            momentum = trial.method.sgd_momentum
            self.optimizer = schedule.build_optimizer(self.parameters, self.training, momentum)

    # -------------------------------------------------------------- from start to end

    def finished(self) -> bool:
        return (self.folder / "weights.safetensors").is_file()

    def resume(self) -> None:
        """Take up the newest whole checkpoint, or start at step 0."""
        found = checkpoint.load_latest(self.folder / "checkpoints")
        if found is None:
            self.log.forget_after(0)
            return
        where = str(self.folder / "checkpoints")
        checkpoint.check_owner(found.header, self.header, where)
        checkpoint.load_weights(self.network, found, where)
        checkpoint.load_optimizer(self.optimizer, list(self.parameters), found.group("optimizer"))
        state = found.header.state
        self.step, self.seconds = found.header.step, state["seconds"]
        self.micro_batch, self.best = state["micro_batch"], state["best"]
        self.random = (found.group("random"), state["random"])
        self.log.forget_after(self.step)
        self.saved = (self.step, time.monotonic())

    def to_the_end(self, data: TrainingData, stop: Stop) -> None:
        self.advance(self.header.steps, data, stop)

    def advance(self, until: int, data: TrainingData, stop: Stop) -> None:
        """Take the steps up to `until`. What draws between two calls changes no later step."""
        steps = self.header.steps
        learnable = sum(p.numel() for p in self.parameters.values())
        self.emit(TrainingStarted(self.header.key, steps, self.step, learnable))
        reset_peak_memory(self.settings.device)
        more = self.step < until  # without a step to take, no episodes are needed either
        batches = data.batches(self.trial, self.step, until, self.settings) if more else ()
        stream = iter(batches)
        batch = next(stream, None)  # starting the stream may draw, so states are set after it
        if self.random is None:
            seed_everything(self.training.seed)
        else:
            restore_random_state(self.random, self.settings.device)
        self.network.train()
        while self.step < until:
            if stop():
                self.save()
                raise Interrupted(self.step)
            assert batch is not None, f"the stream ended at step {self.step} of {until}"
            started = time.monotonic()
            self.take_step(batch.to(self.settings.device))
            batch = next(stream, None) if self.step < until else None
            self.look_after()
            self.seconds += time.monotonic() - started
        self.read_losses()
        self.random = random_state(self.settings.device)

    def look_after(self) -> None:
        """What is due between two steps: reading losses, choosing weights, a checkpoint."""
        if len(self.unread) >= self.settings.fetch_steps:
            self.read_losses()
        if self.selection is not None and self.selection.due(self.step, self.header.steps):
            self.select()
            self.save()
        late = time.monotonic() - self.saved[1] >= self.settings.checkpoint_seconds
        if late or self.step - self.saved[0] >= self.settings.checkpoint_steps:
            self.save()

    def deliver(self) -> Header:
        """Write the chosen weights under their final name, read them back into the network."""
        final = self.folder / "weights.safetensors"
        if not final.is_file():
            self._write_final(final)
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
            shutil.rmtree(self.log.parts, ignore_errors=True)
        found = checkpoint.load(final)
        checkpoint.check_owner(found.header, self.header, str(final))
        checkpoint.load_weights(self.network, found, str(final))
        self.network.eval()
        cost = found.header.state["cost"]
        peak = int(cost["train_peak_memory_bytes"])
        self.emit(TrainingDone(cost["train_seconds"], peak, final))
        return found.header

    def _write_final(self, final: Path) -> None:
        self.log.finish()
        best = self.folder / "best.safetensors"
        chosen = checkpoint.load(best).group("weights") if self.best else self._weights()
        cost = {
            "train_seconds": self.seconds,
            "train_peak_memory_bytes": float(peak_memory(self.settings.device)),
            "train_micro_batch": float(min(self.micro_batch, self.training.batch)),
        }
        state = {"cost": cost, "best": self.best}
        header = replace(self.header, step=self.header.steps, state=state)
        checkpoint.save(final, header, {f"weights/{name}": v for name, v in chosen.items()})
        best.unlink(missing_ok=True)

    # -------------------------------------------------------------- one step

    def take_step(self, batch: EpisodeBatch) -> None:
        """One optimiser step; where memory runs out, again in halves with the same batch."""
        random = random_state(self.settings.device)
        buffers = [value.clone() for value in self._buffers()]
        losses: Tensor | None = None
        while losses is None:
            try:
                losses = self._backward(batch)
            except torch.OutOfMemoryError:
                self._halve(batch)
            if losses is None:  # outside `except`, where the failed graph is already free
                self._rewind(random, buffers)
        schedule.set_learning_rate(self.optimizer, self._rate(self.step))
        self.optimizer.step()
        self.step += 1
        self.network.after_step(self.step, self.header.steps, self.trial.method.momentum)
        self.unread.append(losses)

    def _backward(self, batch: EpisodeBatch) -> Tensor:
        """Gradients of the whole batch; returns its losses and their weighted sum, detached.

        A micro-batch counts by its share of the episodes.
        """
        self.optimizer.zero_grad(set_to_none=True)
        parts = batch.split(sizes_of_parts(len(batch), self.micro_batch, self.least))
        rows = []
        for part in parts:
            share = len(part) / len(batch)
            with autocast(self.settings.device, self.training.precision):
                losses = self.network.training_losses(part)
            self._weigh(tuple(losses))
            values = torch.stack([value.float() for value in losses.values()])
            total = values @ self.factors
            (total * share).backward()  # type: ignore[no-untyped-call]
            rows.append(torch.cat([values.detach(), total.detach().view(1)]) * share)
        if self.training.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.training.clip)
        return torch.stack(rows).sum(dim=0)

    def _weigh(self, names: tuple[str, ...]) -> None:
        """The losses' weights on the device; kept, since a copy there would stall every step."""
        if names != self.names:
            self.names, weights = names, self.trial.method.loss_weights
            values = [weights[name] for name in names]
            self.factors = torch.tensor(values, device=self.settings.device)

    def _halve(self, batch: EpisodeBatch) -> None:
        tried = max(sizes_of_parts(len(batch), self.micro_batch, self.least))
        if tried < 2 * self.least:
            fewest = "one training episode" if tried == 1 else f"{tried} training episodes at once"
            raise InputError(
                f"{self.trial.title}: {fewest} of {self.training.size} pixels does not fit the "
                "device, and fewer cannot be. Lower training.size, set training.precision=bf16, "
                "or give the job a larger device."
            )
        self.micro_batch = tried // 2

    def _rewind(self, random: RandomState, buffers: list[Tensor]) -> None:
        """Undo what a failed attempt drew, wrote to buffers and left in memory."""
        self.optimizer.zero_grad(set_to_none=True)
        free_cached_memory(self.settings.device)
        restore_random_state(random, self.settings.device)
        for buffer, before in zip(self._buffers(), buffers, strict=True):
            buffer.copy_(before)

    def _buffers(self) -> list[Tensor]:
        return [owner.get_buffer(name) for owner, name in self.owners]

    def _rate(self, done: int) -> float:
        return schedule.learning_rate(self.training, done, self.header.steps)

    # -------------------------------------------------------------- between steps

    def read_losses(self) -> None:
        """Move the unread losses to the host, check, log and tell them."""
        if not self.unread:
            return
        rows = torch.stack(self.unread).tolist()
        first = self.step - len(rows)
        self.unread = []
        for done, row in enumerate(rows, start=first):
            losses = dict(zip((*self.names, "total"), row, strict=True))
            rate = self._rate(done)
            if not all(math.isfinite(value) for value in row):
                self._give_up(done + 1, losses)
            self.log.add([{"step": done + 1, "lr": rate, **losses}])
            self.emit(StepDone(done + 1, losses, rate))

    def _give_up(self, step: int, losses: dict[str, float]) -> None:
        self.log.flush()
        note = {name: str(value) for name, value in losses.items()}
        write_json(self.folder / "diverged.json", {"step": step, "losses": note})
        raise Diverged(step, losses)

    def select(self) -> None:
        """Keep these weights if they score best so far; a tie keeps the earlier ones."""
        assert self.selection is not None
        with kept_random_state(self.settings.device):
            self.network.eval()
            score = self.selection.score(self.network)
            self.network.train()
        if not self.best or score > self.best["score"]:
            self.best = {"step": self.step, "score": score}
            header = replace(self.header, step=self.step)
            tensors = {f"weights/{name}": value for name, value in self._weights().items()}
            checkpoint.save(self.folder / "best.safetensors", header, tensors)

    def save(self) -> None:
        """A rolling checkpoint of everything that the next step depends on."""
        self.read_losses()  # a diverged state is never saved
        self.log.flush()
        tensors, generators = random_state(self.settings.device)
        slots = checkpoint.optimizer_tensors(self.optimizer, list(self.parameters))
        state = {
            "random": generators,
            "micro_batch": self.micro_batch,
            "seconds": self.seconds,
            "best": self.best,
        }
        header = replace(self.header, step=self.step, state=state)
        groups = {"weights": self._weights(), "optimizer": slots, "random": tensors}
        checkpoint.save_rolling(
            self.folder / "checkpoints",
            header,
            {f"{group}/{name}": v for group, of in groups.items() for name, v in of.items()},
        )
        self.saved = (self.step, time.monotonic())

    def _weights(self) -> dict[str, Tensor]:
        return checkpoint.weights(self.network)


def sizes_of_parts(episodes: int, most: int, least: int) -> list[int]:
    """How a batch is cut into micro-batches of at most `most` episodes: nearly evenly.

    None gets fewer than `least`, even where one then exceeds `most`.
    """
    parts = max(1, min(-(-episodes // most), episodes // least))
    return [episodes // parts + (part < episodes % parts) for part in range(parts)]


def owners_of_buffers(network: FewShotSegmenter) -> list[tuple[nn.Module, str]]:
    """(module, name) of every buffer that a checkpoint holds; looked up once, read every step."""
    kept = checkpoint.weights(network)
    return [
        (network.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
        for name, _ in network.named_buffers()
        if name in kept
    ]
