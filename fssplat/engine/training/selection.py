"""Select the weights of a training by their score, if a protocol does not take the last ones.

`base-val` scores base classes in images outside the training split. `novel-best` scores the
classes that are reported, as several public codes do; its results are labelled so. Both use fixed
rules, so that the selected weights depend only on settings that are part of the job's key.
"""

from typing import Protocol

import torch

from fssplat.data.episodes.manifest import Manifest
from fssplat.data.index import Dataset
from fssplat.engine.random_state import kept_random_state
from fssplat.engine.scoring.evaluate import rules_of
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.rows import rows_of, sums_of
from fssplat.engine.scoring.scorer import ManifestEpisode, Scorer
from fssplat.engine.training.persistence import TrainingFolder
from fssplat.engine.training.state import TrainingState
from fssplat.experiment.trial import Trial
from fssplat.methods.base import FewShotSegmenter

CHECKS = 10  # scorings per training, evenly spaced, the last one at its end
EPISODES = {"base-val": 200, "novel-best": 1000}  # per scoring


class Selection(Protocol):
    """Decides which weights of a training are kept."""

    def due(self, step: int, steps: int) -> bool:
        """Whether the weights after this step are scored."""
        ...

    def score(self, network: FewShotSegmenter) -> float:
        """The score of a network in eval mode; higher is better."""
        ...


def keep_if_best(
    selection: Selection, state: TrainingState, folder: TrainingFolder, device: torch.device
) -> float:
    """Score the weights and save them if they are the best so far; a tie keeps the earlier ones.

    Returns the score.
    """
    with kept_random_state(device):
        state.network.eval()
        score = selection.score(state.network)
        state.network.train()
    if not state.best or score > state.best["score"]:
        state.best = {"step": state.step, "score": score}
        folder.save_best(state)
    return score


def selection_trial(trial: Trial, episodes: int | None = None) -> Trial:
    """The trial under the rules of a selection: at the training's shot and size, in float32."""
    protocol = trial.protocol.model_copy(
        update={
            "input": "pad",
            "size": trial.training.size,
            "score": ("original",),
            "episodes": episodes or EPISODES[trial.protocol.selection],
            "episode_seeds": (0,),
            "draw": "even",
            "supports_repeat": False,
            "ignore_border": True,
            "short_classes": "drop",
            "absent_class": "skip",
        }
    )
    evaluation = trial.evaluation.model_copy(update={"precision": "fp32"})
    changes = {
        "evaluation": evaluation,
        "shot": trial.training.shot,
        "dataset": trial.train_on,
        "protocol": protocol,
    }
    return trial.model_copy(update=changes)


class SelectionByScore:
    """Scores weights by their mIoU over one manifest, CHECKS times per training."""

    def __init__(
        self, trial: Trial, dataset: Dataset, manifest: Manifest, device: torch.device
    ) -> None:
        self.trial, self.dataset = trial, dataset
        self.manifest, self.device = manifest, device
        self.classes = tuple(sorted({c for e in manifest.episodes for c in e.classes}))

    def due(self, step: int, steps: int) -> bool:
        return step * CHECKS // steps > (step - 1) * CHECKS // steps

    def score(self, network: FewShotSegmenter) -> float:
        """mIoU, 0 to 1, of a network in eval mode."""
        inputs = Inputs(self.dataset, "pad", self.trial.training.size)
        scorer = Scorer(network, inputs, rules_of(self.trial), self.trial.evaluation, self.device)
        episodes = [ManifestEpisode(0, i, drawn) for i, drawn in enumerate(self.manifest.episodes)]
        rows = [row for scored in scorer.score(episodes) for row in rows_of(scored, inputs, "")]
        return sums_of(rows, "original", self.classes)[0].miou("skip")
