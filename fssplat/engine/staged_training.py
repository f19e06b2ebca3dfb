"""A training that stops at shares of its length to be scored there, and then goes on.

Search compares points by it: after the same share of the same steps, on the same episodes. The
weights at a milestone are those of an uninterrupted training at that step, bit for bit.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fssplat.common.errors import InputError
from fssplat.engine.device import deterministic
from fssplat.engine.events import Emit, ignore
from fssplat.engine.job_data import JobData
from fssplat.engine.run import built
from fssplat.engine.settings import RunSettings, Stop, never
from fssplat.engine.training.loop import Training
from fssplat.engine.training.selection import BestOf
from fssplat.experiment.grid import Trial

Look = Literal["base-val", "novel-best"]  # base classes held out of training, or the novel ones


@dataclass(frozen=True)
class Height:
    """What the weights at a milestone are worth."""

    step: int
    miou: float  # 0 to 1
    episodes_per_s: float


class Climb:
    """One training on its way up; `folder` keeps it, so that another process can go on."""

    def __init__(
        self,
        trial: Trial,
        data: JobData,
        folder: Path,
        look: Look = "base-val",
        episodes: int | None = None,
        settings: RunSettings | None = None,
        key: str = "",
        emit: Emit = ignore,
    ) -> None:
        """Raises InputError where the data set has no episodes to look at."""
        self.settings = settings or RunSettings()
        self.trial, self.data = trial, data
        self.judge = judge(trial, data, look, episodes, self.settings)
        with deterministic(self.settings.deterministic):
            network = built(trial, data, self.settings)
        network.take_scoring_options(trial.method.options)  # which no training step reads
        steps = data.steps(trial)
        self.run = Training(network, trial, steps, folder, emit, self.settings, key, None)
        self.run.resume()

    def to(self, share: float, stop: Stop = never) -> Height:
        """Train to this share of the run and score. Raises Interrupted or Diverged."""
        run = self.run
        until = max(run.step, round(share * run.header.steps))
        with deterministic(self.settings.deterministic):
            run.advance(until, self.data, stop)
            run.save()
            run.network.eval()
            started = time.monotonic()
            miou = self.judge.score(run.network)
            seconds = time.monotonic() - started
        return Height(run.step, miou, len(self.judge.manifest.episodes) / max(seconds, 1e-9))


def judge(
    trial: Trial, data: JobData, look: Look, episodes: int | None, settings: RunSettings
) -> BestOf:
    """Scores weights on a fixed manifest, whatever the trial's own protocol selects by.

    Raises InputError where the data set has no such episodes.
    """
    rules = trial.protocol.model_copy(update={"selection": look})
    looked_at = trial.model_copy(update={"protocol": rules})
    found = data.selection(looked_at, settings.device, episodes)
    if found is None:
        raise InputError(f"{trial.title}: {look} has no episodes to look at.")
    return found
