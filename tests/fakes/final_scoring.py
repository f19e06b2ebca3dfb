"""One episode with images of different sizes through the final scoring of a trial, at small sizes.

The network is the trial's own with random weights: its method, options, backbone, ways and shots.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fssplat.data.episodes.manifest import Manifest
from fssplat.data.episodes.training import Episode
from fssplat.data.folds import novel_classes
from fssplat.data.index import Dataset
from fssplat.engine.device import CPU
from fssplat.engine.job_data import JobData
from fssplat.engine.run import prepared_network
from fssplat.engine.scoring.evaluate import evaluate
from fssplat.engine.scoring.metrics import Metrics
from fssplat.engine.settings import RunSettings
from fssplat.experiment.schema import DatasetSpec, digest
from fssplat.experiment.trial import Trial
from fssplat.methods.base import FewShotSegmenter

SIDE = 65  # pixels of the network's input


def small(trial: Trial, root: Path) -> Trial:
    """The trial over the synthetic data set in `root`, with small images and one episode."""
    data = DatasetSpec(name="synthetic", root=str(root))
    rules = {
        "size": SIDE,
        "episodes": 1,
        "episode_seeds": (0,),
        "training_list": "all",
        "min_area": 1,
        "short_classes": "drop",
    }
    options = dict(trial.method.options)
    if "pool_images" in options:  # MiningFSS reads its whole pool before it scores
        options["pool_images"] = 4
    changes = {
        "dataset": data,
        "train_on": data,
        "fold": 0,
        "backbone": trial.backbone.model_copy(update={"weights": "random"}),
        "training": trial.training.model_copy(update={"size": SIDE, "checkpoint": "", "seed": 0}),
        "protocol": trial.protocol.model_copy(update=rules),
        "method": trial.method.model_copy(update={"options": options}),
        "evaluation": trial.evaluation.model_copy(update={"panels": 0}),
    }
    return trial.model_copy(update=changes)


def kinds(trials: Iterable[Trial]) -> list[list[Trial]]:
    """Trials that final scoring treats differently, each once; those of one network together."""
    networks: dict[str, dict[str, Trial]] = {}
    for one in trials:
        network = digest(one.trained_method, one.backbone.name)
        rules = (one.shot, one.way, one.protocol.input, one.protocol.score, one.method.options)
        networks.setdefault(network, {}).setdefault(digest(*rules), one)
    return [list(found.values()) for found in networks.values()]


def scored(trials: Iterable[Trial], folder: Path) -> Iterator[tuple[Trial, Metrics]]:
    """The metrics of each small trial of one network. Raises what the scoring raises."""
    network: FewShotSegmenter | None = None
    for trial in trials:
        data = JobData({"synthetic": Dataset.open(trial.dataset.root)})
        dataset = data.dataset(trial)
        if network is None:
            network = prepared_network(trial, data, RunSettings(CPU, artefacts=folder / "kept"))
        network.take_scoring_options(trial.method.options)
        drawn = two_sizes(dataset, trial)
        episodes = {0: Manifest((drawn,), trial.title, dataset.info.fingerprint)}
        yield trial, evaluate(network, trial, dataset, episodes, folder / "scored", device=CPU)


def two_sizes(dataset: Dataset, trial: Trial) -> Episode:
    """An episode whose query and supports have two sizes by turns; a support may occur twice."""
    classes = novel_classes(dataset.info, trial.fold, trial.protocol)[: trial.way]
    supports: list[int] = []
    query = -1
    for class_id in classes:
        rows = dataset.rows_of(class_id, "val", 1).tolist()
        by_size = {tuple(dataset.sizes[row].tolist()): row for row in rows}
        first, second = list(by_size.values())[:2]
        query = query if query >= 0 else first
        supports += [(second, first)[shot % 2] for shot in range(trial.shot)]
    return Episode(query, tuple(supports), classes)
