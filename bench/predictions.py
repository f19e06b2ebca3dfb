"""Measures what the kept files of an evaluation cost: bytes and processor time an episode.

python bench/predictions.py                              coco_mini, 60 episodes
python bench/predictions.py --data data/pascal-5i --episodes 200

The episodes are those of the untrained prior on EfficientNet-Lite0, fold 0, 1 shot. The time is
that of the processor, so other programs of the machine do not change it. Masks of the untrained
prior have long outlines, so those of trained methods are smaller.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.episodes.manifest import manifest
from fssplat.data.index import Dataset
from fssplat.engine.network import fresh_network
from fssplat.engine.scoring.evaluate import evaluate
from fssplat.engine.scoring.kept.files import KeptFiles
from fssplat.engine.scoring.kept.names import DETAILS, PREDICTIONS
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.methods import METHODS

COCO_MINI = Path(__file__).resolve().parents[2] / "shared/data/coco_mini"
EPISODES_OF_A_TRIAL = 4000


def trial_of(dataset: Dataset, episodes: int, size: int) -> Trial:
    """The untrained prior on fold 0, 1 shot, scored at original size."""
    spec = {
        "name": "bench",
        "dataset": dataset.info.name,
        "grid": {"method": ["prior"], "backbone": ["efficientnet_lite0"]},
        "protocol": {
            "name": "fssplat", "episodes": episodes, "episode_seeds": [0], "score": ["original"],
            "short_classes": "drop", "size": size,
        },
        "evaluation": {"panels": 0},
    }  # fmt: skip
    return expand(ExperimentSpec.model_validate(spec), METHODS)[0]


def measured(spent: dict[str, float], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which adds its processor time in its thread to `spent[name]`, in seconds."""

    def timed(*given: Any) -> Any:
        started = time.thread_time()
        try:
            return call(*given)
        finally:
            spent[name] += time.thread_time() - started

    return timed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a built data set; without: coco_mini is built")
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--size", type=int, default=473, help="side of the input, pixels")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        place = given.data or Path(folder) / "coco-20i"
        if given.data is None:
            build("coco-20i", COCO_MINI, place, BuildSettings(skip_bad=True))
        measure(Dataset.open(place), given.episodes, given.size)


def measure(dataset: Dataset, count: int, size: int) -> None:
    """Score the episodes and print bytes and times."""
    trial = trial_of(dataset, count, size)
    episodes = manifest(dataset, trial.fold, trial.shot, trial.protocol, 0)
    network = fresh_network(trial)
    spent = {"add": 0.0, "rows_of": 0.0}
    for name in spent:
        setattr(KeptFiles, name, measured(spent, name, getattr(KeptFiles, name)))
    with TemporaryDirectory() as folder:
        started = time.process_time()
        evaluate(network, trial, dataset, {0: episodes}, Path(folder))
        whole = time.process_time() - started
        sizes = [(Path(folder) / name).stat().st_size for name in (PREDICTIONS, DETAILS)]
    for name, size in zip(("masks", "details"), sizes, strict=True):
        many = EPISODES_OF_A_TRIAL * size / count / 1e6
        print(f"{name}: {size / count:.0f} bytes an episode, {many:.1f} MB for 4,000")
    parts = {"evaluation": whole, "copies": spent["add"], "other thread": spent["rows_of"]}
    for name, seconds in parts.items():
        share = 100 * seconds / whole
        print(
            f"{name}: {1000 * seconds / count:.2f} ms an episode, {share:.1f} % of the evaluation"
        )


if __name__ == "__main__":
    main()
