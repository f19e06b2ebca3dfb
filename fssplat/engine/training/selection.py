"""Which weights of a run are scored, where a protocol does not take the last ones.

`base-val` looks at base classes in images outside the training split; `novel-best` looks at the
very classes that are reported, as several public codes do, and is labelled so wherever it shows.
Both look under fixed rules, so that the weights depend on nothing but what names the training.
"""

import torch

from fssplat.data.episodes.manifest import Manifest
from fssplat.data.index import Dataset
from fssplat.engine.scoring.evaluate import rules_of
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.scorer import Scorer, Task, rows_of, sums_of
from fssplat.experiment.grid import Trial
from fssplat.methods.base import FewShotSegmenter

CHECKS = 10  # looks per training, evenly spaced, the last one at its end
EPISODES = {"base-val": 200, "novel-best": 1000}  # per look


def looking(trial: Trial, episodes: int | None = None) -> Trial:
    """The trial as a look scores it: at the training's shot and size, in float32."""
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


class BestOf:
    """Keeps the weights with the best mIoU over one manifest."""

    def __init__(
        self, trial: Trial, dataset: Dataset, manifest: Manifest, device: torch.device
    ) -> None:
        self.trial, self.dataset = trial, dataset
        self.manifest, self.device = manifest, device
        self.classes = tuple(sorted({c for e in manifest.episodes for c in e.classes}))

    def due(self, step: int, steps: int) -> bool:
        """Whether the weights after this step are looked at."""
        return step * CHECKS // steps > (step - 1) * CHECKS // steps

    def score(self, network: FewShotSegmenter) -> float:
        """mIoU of the weights as they are, in eval mode."""
        inputs = Inputs(self.dataset, "pad", self.trial.training.size)
        scorer = Scorer(network, inputs, rules_of(self.trial), self.trial.evaluation, self.device)
        tasks = [Task(0, index, episode) for index, episode in enumerate(self.manifest.episodes)]
        rows = [row for scored in scorer.score(tasks) for row in rows_of(scored, inputs, "")]
        return sums_of(rows, "original", self.classes)[0].miou("skip")
