"""Small trials and jobs over data sets that do not exist; nothing is read or built."""

from fssplat.experiment.expand import jobs
from fssplat.experiment.protocols import PROTOCOLS
from fssplat.experiment.schema import (
    BackboneSpec,
    DatasetSpec,
    EvaluationSpec,
    MethodSpec,
    TrainingSpec,
)
from fssplat.experiment.trial import Job, Trial
from fssplat.planning.packing import PlannedJob


def trial(
    seed: int = 0, shot: int = 1, method: str = "panet", steps: int = 4, fold: int = 0
) -> Trial:
    data = DatasetSpec(name="synthetic")
    return Trial(
        dataset=data,
        train_on=data,
        fold=fold,
        shot=shot,
        method=MethodSpec(name=method),
        backbone=BackboneSpec(name="resnet50"),
        training=TrainingSpec(steps=steps, seed=seed),
        protocol=PROTOCOLS["fssplat"],
        evaluation=EvaluationSpec(),
        method_version=1,
    )


def job(*trials: Trial) -> Job:
    (only,) = jobs(list(trials) or [trial()], {})
    return only


def planned_job(one: Job, seconds: float = 1.0, gpu: float = 0.0) -> PlannedJob:
    return PlannedJob(one, seconds, seconds, False, gpu, 1.0)
