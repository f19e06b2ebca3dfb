"""A synthetic data set on disk and jobs over it, for tests of whole jobs."""

from pathlib import Path
from typing import Any

from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.sources.record import SourceOptions
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.expand import expand, jobs
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Job
from fssplat.methods import METHODS

SIZE = 65


def build_synthetic(folder: Path) -> Path:
    """Build a synthetic data set of 40 training and 60 test images."""
    options = SourceOptions(train_images=40, val_images=60, workers=1)
    build("synthetic", folder.parent / "raw", folder, BuildSettings(options=options, workers=1))
    return folder


def synthetic_job(root: Path, method: Any, shots: tuple[int, ...] = (1,), **changes: Any) -> Job:
    """The one job of a small grid; `changes` are axes of the protocol or `training`."""
    training = {"steps": 4, "size": SIZE, "batch": 2, **changes.pop("training", {})}
    evaluation = changes.pop("evaluation", {})
    protocol = {"episodes": 6, "episode_seeds": [0, 1], "short_classes": "drop", "min_area": 100}
    values = {
        "name": "test",
        "dataset": "synthetic",
        "datasets": {"synthetic": {"name": "synthetic", "root": str(root)}},
        "backbones": {"efficientnet_lite0": {"name": "efficientnet_lite0", "weights": "random"}},
        "grid": {"shot": shots, "method": [method], "backbone": ["efficientnet_lite0"]},
        "protocol": {"name": "fssplat", **protocol, "score": ["original", 33], **changes},
        "training": training,
        "evaluation": evaluation,
    }
    experiment = validate(ExperimentSpec, values, "test")
    (job,) = jobs(expand(experiment, METHODS), {})
    return job
