"""Losses of finished steps: they stay on the device until many are read, checked and logged."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fssplat.common.whole_files import write_json
from fssplat.engine.events import Emit, StepDone
from fssplat.engine.settings import Diverged
from fssplat.engine.training.loss_curve import LossLog


class UnreadLosses:
    """Losses whose steps are done and that are not yet read from the device."""

    def __init__(self, log: LossLog, emit: Emit, learning_rate: Callable[[int], float]) -> None:
        self.log, self.emit, self.learning_rate = log, emit, learning_rate
        self.rows: list[Tensor] = []  # [losses + 1] each, with the total last

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, losses: Tensor) -> None:
        """The losses of the step after the last one added."""
        self.rows.append(losses)

    def read(self, step: int, names: tuple[str, ...]) -> None:
        """Move all rows to the host, check, log and emit them; `step` is the last row's step.

        Raises Diverged at the first value that is not finite, and writes `diverged.json`.
        """
        if not self.rows:
            return
        rows = torch.stack(self.rows).tolist()
        self.rows = []
        for done, row in enumerate(rows, start=step - len(rows)):
            losses = dict(zip((*names, "total"), row, strict=True))
            rate = self.learning_rate(done)
            if not all(math.isfinite(value) for value in row):
                self._end_as_diverged(done + 1, losses)
            self.log.add([{"step": done + 1, "lr": rate, **losses}])
            self.emit(StepDone(done + 1, losses, rate))

    def _end_as_diverged(self, step: int, losses: dict[str, float]) -> None:
        self.log.flush()
        shown = {name: str(value) for name, value in losses.items()}
        write_json(self.log.folder / "diverged.json", {"step": step, "losses": shown})
        raise Diverged(step, losses)
