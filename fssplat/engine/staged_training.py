"""A training that pauses at milestones (shares of its length), is scored there and goes on.

A search compares points by these scores: after the same share of the same number of steps, on the
same episodes. The weights at a milestone equal those of an uninterrupted training at that step,
bit for bit.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fssplat.common.errors import InputError
from fssplat.engine.device import deterministic
from fssplat.engine.events import Emit, ignore
from fssplat.engine.job_data import JobData
from fssplat.engine.run import prepared_network
from fssplat.engine.settings import RunSettings, Stop, never
from fssplat.engine.training.loop import Training
from fssplat.engine.training.selection import SelectionByScore
from fssplat.experiment.trial import Trial

ScoredOn = Literal["base-val", "novel-best"]  # base classes held out of training, or the novel ones


@dataclass(frozen=True)
class StageScore:
    """The score of the weights at a milestone."""

    step: int
    miou: float  # 0 to 1
    episodes_per_s: float


class StagedTraining:
    """One training and its scores at milestones; another process can resume it from `folder`."""

    def __init__(
        self,
        trial: Trial,
        data: JobData,
        folder: Path,
        scored_on: ScoredOn = "base-val",
        episodes: int | None = None,
        settings: RunSettings | None = None,
        key: str = "",
        emit: Emit = ignore,
    ) -> None:
        """Raises InputError if the data set has no episodes to score on."""
        self.settings = settings or RunSettings()
        self.data = data
        self.selection = milestone_selection(trial, data, scored_on, episodes, self.settings)
        with deterministic(self.settings.deterministic):
            network = prepared_network(trial, data, self.settings)
        network.take_scoring_options(trial.method.options)  # no training step reads these
        steps = data.steps(trial)
        self.training = Training(network, trial, steps, folder, emit, self.settings, key, None)
        self.training.folder.resume(self.training.state)

    def advance_to(self, share: float, stop: Stop = never) -> StageScore:
        """Train to this share of the steps and score. Raises Interrupted or Diverged."""
        training, state = self.training, self.training.state
        until = max(state.step, round(share * training.steps))
        with deterministic(self.settings.deterministic):
            training.advance(until, self.data, stop)
            training.save()
            state.network.eval()
            started = time.monotonic()
            miou = self.selection.score(state.network)
            seconds = time.monotonic() - started
        episodes = len(self.selection.manifest.episodes)
        return StageScore(state.step, miou, episodes / max(seconds, 1e-9))


def milestone_selection(
    trial: Trial,
    data: JobData,
    scored_on: ScoredOn,
    episodes: int | None,
    settings: RunSettings,
) -> SelectionByScore:
    """Scores weights on a fixed manifest, whatever the trial's own protocol selects by.

    Raises InputError if the data set has no such episodes.
    """
    rules = trial.protocol.model_copy(update={"selection": scored_on})
    scored = trial.model_copy(update={"protocol": rules})
    found = data.selection(scored, settings.device, episodes)
    if found is None:
        raise InputError(f"{trial.title}: {scored_on} has no episodes to score on.")
    return found
