"""Jobs with absolute paths: a worker may have another working folder than the launch."""

from pathlib import Path

from fssplat.experiment.schema import DatasetSpec
from fssplat.experiment.trial import Job, Trial


def absolute_job(job: Job) -> Job:
    return job.model_copy(update={"trials": tuple(map(absolute_trial, job.trials))})


def reads_weight_files(trial: Trial) -> bool:
    """Whether the trial gives the path of a weight file."""
    return bool(trial.training.checkpoint) or trial.backbone.weights not in ("auto", "random")


def absolute_trial(trial: Trial) -> Trial:
    """The trial with absolute paths of its data sets and weight files."""
    weights, given = trial.backbone.weights, trial.training.checkpoint
    if weights not in ("auto", "random"):
        weights = _absolute(weights)
    return trial.model_copy(
        update={
            "dataset": _absolute_dataset(trial.dataset),
            "train_on": _absolute_dataset(trial.train_on),
            "backbone": trial.backbone.model_copy(update={"weights": weights}),
            "training": trial.training.model_copy(
                update={"checkpoint": _absolute(given) if given else given}
            ),
        }
    )


def _absolute_dataset(dataset: DatasetSpec) -> DatasetSpec:
    from fssplat.data.places import default_root

    root = dataset.root or default_root(dataset.name)
    return dataset.model_copy(update={"root": _absolute(root)})


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())
