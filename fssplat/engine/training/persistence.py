"""The folder of one training: resume from it, save to it, keep the best weights, deliver the last.

checkpoints/step-*.safetensors   the newest two states, from which a training resumes
best.safetensors                 the best weights so far, if the protocol selects weights
steps/*.parquet                  losses of every step up to the newest checkpoint
weights.safetensors              the final weights; from here on the files above are gone
steps.parquet                    the whole loss curve
"""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fssplat.engine import checkpoint
from fssplat.engine.checkpoint import Header
from fssplat.engine.device import peak_memory
from fssplat.engine.random_state import random_state
from fssplat.engine.settings import RunSettings
from fssplat.engine.training.loss_curve import LossLog
from fssplat.engine.training.state import TrainingState


class TrainingFolder:
    """The files of one training; `header` names the training in each of them."""

    def __init__(self, folder: Path, header: Header, device: torch.device) -> None:
        self.header, self.device = header, device
        self.checkpoints = folder / "checkpoints"
        self.best = folder / "best.safetensors"
        self.final = folder / "weights.safetensors"
        self.log = LossLog(folder)
        self.saved_step, self.saved_at = 0, time.monotonic()  # of the newest checkpoint

    def finished(self) -> bool:
        """Whether the training has ended and its final weights are here."""
        return self.final.is_file()

    def resume(self, state: TrainingState) -> None:
        """Fill the state from the newest whole checkpoint; without one it stays at step 0.

        Raises InputError if the checkpoint is of another job, method or backbone.
        """
        found = checkpoint.load_latest(self.checkpoints)
        if found is None:
            self.log.forget_after(0)
            return
        where = str(self.checkpoints)
        checkpoint.check_owner(found.header, self.header, where)
        checkpoint.load_weights(state.network, found, where)
        assert state.optimizer is not None
        names = list(state.parameters)
        checkpoint.load_optimizer(state.optimizer, names, found.group("optimizer"))
        kept = found.header.state
        state.step, state.seconds = found.header.step, kept["seconds"]
        state.micro_batch, state.best = kept["micro_batch"], kept["best"]
        state.random = (found.group("random"), kept["random"])
        self.log.forget_after(state.step)
        self.saved_step, self.saved_at = state.step, time.monotonic()

    def is_save_due(self, step: int, settings: RunSettings) -> bool:
        """Whether the newest checkpoint is too old, in steps or in seconds."""
        late = time.monotonic() - self.saved_at >= settings.checkpoint_seconds
        return late or step - self.saved_step >= settings.checkpoint_steps

    def save(self, state: TrainingState) -> None:
        """A rolling checkpoint of everything that the next step depends on."""
        self.log.flush()
        assert state.optimizer is not None
        tensors, generators = random_state(self.device)
        slots = checkpoint.optimizer_tensors(state.optimizer, list(state.parameters))
        kept = {
            "random": generators,
            "micro_batch": state.micro_batch,
            "seconds": state.seconds,
            "best": state.best,
        }
        header = replace(self.header, step=state.step, state=kept)
        weights = checkpoint.weights(state.network)
        groups = {"weights": weights, "optimizer": slots, "random": tensors}
        checkpoint.save_rolling(
            self.checkpoints,
            header,
            {f"{group}/{name}": v for group, of in groups.items() for name, v in of.items()},
        )
        self.saved_step, self.saved_at = state.step, time.monotonic()

    def save_best(self, state: TrainingState) -> None:
        """Replace the best weights by those of this step."""
        header = replace(self.header, step=state.step)
        checkpoint.save(self.best, header, grouped(checkpoint.weights(state.network)))

    def deliver(self, state: TrainingState) -> Header:
        """Write the chosen weights under their final name and read them back into the network.

        Returns the header of the final file.
        """
        if not self.finished():
            self._write_final(state)
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            shutil.rmtree(self.log.parts, ignore_errors=True)
        found = checkpoint.load(self.final)
        checkpoint.check_owner(found.header, self.header, str(self.final))
        checkpoint.load_weights(state.network, found, str(self.final))
        state.network.eval()
        return found.header

    def _write_final(self, state: TrainingState) -> None:
        self.log.finish()
        chosen = checkpoint.weights(state.network)
        if state.best:
            chosen = checkpoint.load(self.best).group("weights")
        cost = {
            "train_seconds": state.seconds,
            "train_peak_memory_bytes": float(peak_memory(self.device)),
            "train_micro_batch": float(state.micro_batch),
        }
        kept = {"cost": cost, "best": state.best}
        header = replace(self.header, step=self.header.steps, state=kept)
        checkpoint.save(self.final, header, grouped(chosen))
        self.best.unlink(missing_ok=True)


def grouped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that a checkpoint has for them."""
    return {f"weights/{name}": value for name, value in weights.items()}
