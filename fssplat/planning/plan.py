"""Which jobs of an experiment are unfinished, what they cost, and how long they take together."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fssplat.experiment.expand import expand, jobs
from fssplat.experiment.schema import ExperimentSpec, ResourceSpec
from fssplat.experiment.trial import Job, Trial
from fssplat.planning.cost import CostModel, operations, training_operations, training_steps
from fssplat.planning.inputs import content_fingerprints, dataset_infos
from fssplat.planning.packing import (
    Machine,
    Placement,
    PlannedJob,
    check_resources,
    devices_in_use,
    in_start_order,
    place_jobs,
    this_machine,
)
from fssplat.results.records import SETTLED, TrialStatus
from fssplat.results.store import Store


@dataclass(frozen=True)
class Plan:
    """The jobs of an experiment, with the state that the store has of their trials."""

    experiment: ExperimentSpec
    jobs: tuple[Job, ...]  # all of the grid
    pending: tuple[PlannedJob, ...]  # in the order in which they start
    states: Mapping[str, TrialStatus]
    images: Mapping[str, int]  # training images by data set
    fingerprints: Mapping[str, str]
    machine: Machine
    devices: int  # in use at the same time, see `devices_in_use`

    @cached_property
    def trials(self) -> dict[str, Trial]:
        return {
            trial_id: trial
            for job in self.jobs
            for trial_id, trial in zip(job.trial_ids, job.trials, strict=True)
        }

    @cached_property
    def placements(self) -> list[Placement]:
        return place_jobs(self.pending, self.devices)

    @property
    def makespan_s(self) -> float:
        return max((item.start_s + item.planned.seconds for item in self.placements), default=0.0)

    @property
    def work_s(self) -> float:
        """Device-seconds of all pending jobs."""
        return sum(item.seconds * (item.gpu or 1.0) for item in self.pending)

    @property
    def lower_bound_s(self) -> float:
        """No order ends sooner: all work spread evenly over the devices, or the longest job."""
        longest = max((item.seconds for item in self.pending), default=0.0)
        return max(self.work_s / self.devices, longest)

    @property
    def utilisation(self) -> float:
        span = self.makespan_s
        return self.work_s / (self.devices * span) if span else 1.0

    @property
    def trained(self) -> list[Job]:
        """The jobs of the whole grid that include a training."""
        return [job for job in self.jobs if job.trains]

    @property
    def saved_trainings(self) -> int:
        """Trainings of the whole grid that sharing makes unnecessary."""
        return sum(len(job.trials) for job in self.trained) - len(self.trained)

    @property
    def sharing(self) -> list[str]:
        """Methods whose trials share a training, in the order of the grid."""
        labels = (job.first.method.label for job in self.trained if len(job.trials) > 1)
        return list(dict.fromkeys(labels))


def make_plan(
    experiment: ExperimentSpec, store: Store | None = None, machine: Machine | None = None
) -> Plan:
    """Expand the grid, read the trials' states from the store, predict the unfinished jobs.

    Raises InputError for a wrong grid, a missing data set, or resources that Ray cannot give.
    """
    from fssplat.backbones import require_backbone
    from fssplat.methods import methods_named

    infos = dataset_infos(experiment)
    methods = methods_named(entry.name for entry in experiment.grid.method)
    check_resources(experiment)
    machine = machine or this_machine()
    fingerprints = {name: info.fingerprint for name, info in infos.items()}
    images = {name: info.counts.get("train", 0) for name, info in infos.items()}
    trials = expand(experiment, methods)
    for name in experiment.backbones:
        require_backbone(name, f"{experiment.name}: backbones")
    fingerprints |= content_fingerprints(trials)
    grid = tuple(jobs(trials, fingerprints))
    store = store or Store(experiment.store)
    states = store.states(trial_id for job in grid for trial_id in job.trial_ids)
    resources = experiment.resources
    use_gpu = machine.gpus > 0 if resources.gpu == "auto" else resources.gpu > 0
    records = store.job_records()
    model = CostModel(records.values(), gpu=use_gpu, cores=resources.cpu)
    pending = []
    for job in grid:
        left = unfinished(job, states)
        trained = job.key in records or len(left.trials) < len(job.trials)
        if left.trials:
            started = any(states[i].job for i in left.trial_ids)
            step = store.checkpoint_step(job.key) if started and not trained else 0
            pending.append(_planned(left, resources, model, images, use_gpu, trained, step))
    return Plan(
        experiment=experiment,
        jobs=grid,
        pending=tuple(in_start_order(pending)),
        states=states,
        images=images,
        fingerprints=fingerprints,
        machine=machine,
        devices=devices_in_use(machine, resources, use_gpu),
    )


def unfinished(job: Job, states: Mapping[str, TrialStatus]) -> Job:
    """The job with only its trials that need a result; it can have none."""
    left = [
        (trial_id, trial)
        for trial_id, trial in zip(job.trial_ids, job.trials, strict=True)
        if states[trial_id].state not in SETTLED
    ]
    if len(left) == len(job.trials):
        return job
    return job.model_copy(
        update={"trials": tuple(t for _, t in left), "trial_ids": tuple(i for i, _ in left)}
    )


def _planned(
    job: Job,
    resources: ResourceSpec,
    model: CostModel,
    images: Mapping[str, int],
    use_gpu: bool,
    trained: bool,
    step: int,
) -> PlannedJob:
    done = 1.0 if trained else min(1.0, step / max(1, training_steps(job.first, images)))
    flops = operations(job, images, done)
    gpu = _gpu_share(resources, model, job) if use_gpu else 0.0
    whole = operations(job, images, float(trained))
    share = 0.0 if trained else training_operations(job.first, images) / max(whole, 1.0)
    seconds, measured = model.seconds(job, flops), model.measured(job)
    return PlannedJob(job, flops, seconds, measured, gpu, resources.cpu, share, done, step)


def _gpu_share(resources: ResourceSpec, model: CostModel, job: Job) -> float:
    return model.gpu_share(job) if resources.gpu == "auto" else float(resources.gpu)
