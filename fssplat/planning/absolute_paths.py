"""Jobs with absolute paths: a worker may have another working folder than the launch."""

from pathlib import Path

from fssplat.experiment.schema import DatasetSpec
from fssplat.experiment.trial import Job, Trial


def rooted(job: Job) -> Job:
    """The job with absolute paths, for workers that may have another working folder."""
    return job.model_copy(update={"trials": tuple(map(rooted_trial, job.trials))})


def names_files(trial: Trial) -> bool:
    """Whether the trial reads weights that it names by a path."""
    return bool(trial.training.checkpoint) or trial.backbone.weights not in ("auto", "random")


def rooted_trial(trial: Trial) -> Trial:
    """The trial with absolute paths."""
    weights, given = trial.backbone.weights, trial.training.checkpoint
    if weights not in ("auto", "random"):
        weights = _absolute(weights)
    return trial.model_copy(
        update={
            "dataset": _rooted_data(trial.dataset),
            "train_on": _rooted_data(trial.train_on),
            "backbone": trial.backbone.model_copy(update={"weights": weights}),
            "training": trial.training.model_copy(
                update={"checkpoint": _absolute(given) if given else given}
            ),
        }
    )


def _rooted_data(dataset: DatasetSpec) -> DatasetSpec:
    from fssplat.data.index import default_root

    root = dataset.root or default_root(dataset.name)
    return dataset.model_copy(update={"root": _absolute(root)})


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())
