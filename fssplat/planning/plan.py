"""Before anything runs: which jobs are left, what they cost, in which order and for how long."""

import heapq
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fssplat.common.errors import InputError
from fssplat.data.cache import Bucket, is_remote
from fssplat.data.index import DatasetInfo, default_root, read_info
from fssplat.experiment.expand import expand, jobs
from fssplat.experiment.schema import ExperimentSpec, ResourceSpec
from fssplat.experiment.trial import Job, Trial
from fssplat.planning.absolute_paths import names_files, rooted_trial
from fssplat.planning.cost import CostModel, local_gpus, operations
from fssplat.results.store import SETTLED, Store, TrialStatus

SHOWN = 20  # jobs listed in the terminal; the JSON has all


@dataclass(frozen=True)
class PlannedJob:
    """A job with what it still has to do and what that is expected to take."""

    job: Job  # its unfinished trials only
    flops: float
    seconds: float
    measured: bool  # the prediction rests on finished jobs of the same kind
    gpu: float  # share of a GPU, or a number of GPUs; 0 on CPU
    cpu: float


@dataclass(frozen=True)
class Machine:
    """What there is to run on, over all nodes."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Placement:
    """A job on the time line of one device."""

    planned: PlannedJob
    device: int
    start_s: float


@dataclass(frozen=True)
class Plan:
    """An experiment against its store."""

    experiment: ExperimentSpec
    jobs: tuple[Job, ...]  # all of the grid
    pending: tuple[PlannedJob, ...]  # what is left, longest first within a kind of worker
    states: Mapping[str, TrialStatus]
    images: Mapping[str, int]  # training images by data set
    fingerprints: Mapping[str, str]
    machine: Machine
    devices: int  # that are at work at once, see `slots`

    @cached_property
    def trials(self) -> dict[str, Trial]:
        return {
            trial_id: trial
            for job in self.jobs
            for trial_id, trial in zip(job.trial_ids, job.trials, strict=True)
        }

    @cached_property
    def placements(self) -> list[Placement]:
        return place(self.pending, self.devices)

    @property
    def makespan_s(self) -> float:
        return max((item.start_s + item.planned.seconds for item in self.placements), default=0.0)

    @property
    def work_s(self) -> float:
        """Device-seconds of all pending jobs."""
        return sum(item.seconds * (item.gpu or 1.0) for item in self.pending)

    @property
    def lower_bound_s(self) -> float:
        """No order can end sooner: all work spread evenly, or the longest job."""
        longest = max((item.seconds for item in self.pending), default=0.0)
        return max(self.work_s / self.devices, longest)

    @property
    def utilisation(self) -> float:
        span = self.makespan_s
        return self.work_s / (self.devices * span) if span else 1.0

    @property
    def trained(self) -> list[Job]:
        """The jobs that train at all, over the whole grid."""
        return [job for job in self.jobs if job.trains]

    @property
    def saved_trainings(self) -> int:
        """Trainings that sharing makes unnecessary, over the whole grid."""
        return sum(len(job.trials) for job in self.trained) - len(self.trained)

    @property
    def sharing(self) -> list[str]:
        """Methods whose trials share a training, in the order of the grid."""
        labels = (job.first.method.label for job in self.trained if len(job.trials) > 1)
        return list(dict.fromkeys(labels))


# ------------------------------------------------------------------ making it


def make_plan(
    experiment: ExperimentSpec, store: Store | None = None, machine: Machine | None = None
) -> Plan:
    """Expand the grid, look up what is finished, predict the rest.

    Raises InputError for a bad grid, a missing data set, or resources Ray cannot give.
    """
    infos = datasets(experiment)
    from fssplat.backbones import require_backbone
    from fssplat.methods import methods_named

    methods = methods_named(entry.name for entry in experiment.grid.method)
    check_resources(experiment)
    machine = machine or this_machine()
    fingerprints = {name: info.fingerprint for name, info in infos.items()}
    images = {name: info.counts.get("train", 0) for name, info in infos.items()}
    trials = expand(experiment, methods)
    for name in experiment.backbones:
        require_backbone(name, f"{experiment.name}: backbones")
    fingerprints |= contents(trials)
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
            pending.append(_planned(left, resources, model, images, use_gpu, trained))
    return Plan(
        experiment=experiment,
        jobs=grid,
        pending=tuple(ordered(pending)),
        states=states,
        images=images,
        fingerprints=fingerprints,
        machine=machine,
        devices=slots(machine, resources, use_gpu),
    )


def slots(machine: Machine, resources: ResourceSpec, use_gpu: bool) -> int:
    """GPUs, or without any the places for a job's cores, that are at work at once.

    Cores and `max_concurrent` limit the jobs, and so the GPUs. Jobs that share a GPU are counted as
    if each had its own, so that a plan may show more of those side by side than are allowed.
    """
    jobs_at_once = max(1, int(machine.cpus / resources.cpu))
    if resources.max_concurrent is not None:
        jobs_at_once = min(jobs_at_once, resources.max_concurrent)
    if not use_gpu:
        return jobs_at_once
    each = 1 if resources.gpu == "auto" else math.ceil(resources.gpu)
    return max(1, min(machine.gpus, jobs_at_once * each))


def contents(trials: Sequence[Trial]) -> dict[str, str]:
    """The content of every file that trials read besides their data sets, by how they name it.

    Weights also stand there by their absolute path, as workers name them. Raises InputError for an
    unknown backbone, and as `given_weights`.
    """
    from fssplat.backbones import require_backbone, weight_content
    from fssplat.data.public_lists import lists_content

    trials = [*trials, *(rooted_trial(trial) for trial in trials if names_files(trial))]
    found = given_weights(trials)
    backbones = {trial.backbone.source: trial.backbone for trial in trials}
    for spec in backbones.values():
        require_backbone(spec.name)
    found |= {source: weight_content(spec) for source, spec in backbones.items()}
    pairs = ((trial, spec) for trial in trials for spec in (trial.train_on, trial.dataset))
    lists = {trial.protocol.lists_of(spec.name): (spec, trial.protocol) for trial, spec in pairs}
    found |= {name: lists_content(*read) for name, read in lists.items()}
    return {name: content for name, content in found.items() if content}


def given_weights(trials: Sequence[Trial]) -> dict[str, str]:
    """Name of the content of every `training.checkpoint`, by its path.

    Raises InputError where a file is missing, or holds another method's or backbone's weights.
    """
    from fssplat.engine.checkpoint import check_owner, identity

    found = {}
    for trial in trials:
        given = trial.training.checkpoint
        if given:
            header, found[given] = identity(Path(given))
            wanted = replace(header, method=trial.method.name, backbone=trial.backbone.name)
            check_owner(header, wanted, given)
    return found


def unfinished(job: Job, states: Mapping[str, TrialStatus]) -> Job:
    """The job with those of its trials that still need a result; maybe with none."""
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


def this_machine() -> Machine:
    return Machine(os.cpu_count() or 1, local_gpus())


def machine_with(gpus: int) -> Machine:
    """So many GPUs, wherever they are, with cores for all jobs; without any, this machine."""
    return Machine(sys.maxsize if gpus else os.cpu_count() or 1, gpus)


def ordered(pending: Sequence[PlannedJob]) -> list[PlannedJob]:
    """One kind of worker after the other, each longest first; ties as the grid has them.

    Ray reuses a worker only for the next job of the same kind, and mixes up the order of jobs
    where kinds alternate. The kind with the longest job goes first.
    """
    kinds: dict[tuple[float, float], float] = {}
    for item in pending:
        kind = (item.gpu, item.cpu)
        kinds[kind] = max(kinds.get(kind, 0.0), item.seconds)
    return sorted(pending, key=lambda item: (-kinds[item.gpu, item.cpu], item.gpu, -item.seconds))


def place(pending: Sequence[PlannedJob], devices: int) -> list[Placement]:
    """Start the jobs in order, each as soon as its share of some device is free."""
    if all(item.gpu in (0.0, 1.0) for item in pending):
        return _place_whole(pending, devices)
    free = [1.0] * devices
    running: list[tuple[float, int, tuple[int, ...], float]] = []
    now, placed = 0.0, []
    for number, item in enumerate(pending):
        need, share = max(1, round(item.gpu)), min(item.gpu or 1.0, 1.0)
        while len(fit := [d for d in range(devices) if free[d] >= share - 1e-6]) < need:
            if not running:
                raise InputError(
                    f"{item.job.title} needs {need} GPUs at once; the plan has {devices}. "
                    "Raise --gpus or lower resources.gpu."
                )
            now, _, used, back = heapq.heappop(running)
            for device in used:
                free[device] += back
        chosen = tuple(sorted(fit, key=lambda d: (free[d], d))[:need])  # fill the fullest
        for device in chosen:
            free[device] -= share
        heapq.heappush(running, (now + item.seconds, number, chosen, share))
        placed.append(Placement(item, chosen[0], now))
    return placed


def _place_whole(pending: Sequence[PlannedJob], devices: int) -> list[Placement]:
    free = [(0.0, device) for device in range(devices)]
    placed = []
    for item in pending:
        start, device = heapq.heappop(free)
        placed.append(Placement(item, device, start))
        heapq.heappush(free, (start + item.seconds, device))
    return placed


def datasets(experiment: ExperimentSpec) -> dict[str, DatasetInfo]:
    """dataset.json of every data set of the experiment, by name. Raises InputError if missing."""
    named = experiment.grid.dataset or ((experiment.dataset,) if experiment.dataset else ())
    names = dict.fromkeys([*named, *([experiment.train_on] if experiment.train_on else [])])
    found = {}
    for name in names:
        spec = experiment.datasets.get(name)
        root = spec.root if spec and spec.root else default_root(name)
        found[name] = dataset_info(name, root.rstrip("/"))
    return found


def dataset_info(name: str, root: str) -> DatasetInfo:
    """A data set's description without opening its shards. Raises InputError."""
    if is_remote(root):
        info = read_info(Bucket(root).read, root, name)
    else:
        info = read_info(lambda file: (Path(root) / file).read_bytes(), root, name)
    if info.name != name:
        raise InputError(
            f"{root}: holds {info.name}, not {name}. Set datasets.{name}.root to its folder."
        )
    return info


def check_resources(experiment: ExperimentSpec) -> None:
    """Ray aborts a whole run for a share such as 1.5, so it is refused here."""
    gpu = experiment.resources.gpu
    if gpu != "auto" and gpu > 1 and gpu != int(gpu):
        raise InputError(
            f"{experiment.name}: resources.gpu is {gpu:g}; a job takes a share of one GPU "
            "(0 to 1) or a whole number of them."
        )


def _planned(
    job: Job,
    resources: ResourceSpec,
    model: CostModel,
    images: Mapping[str, int],
    use_gpu: bool,
    trained: bool,
) -> PlannedJob:
    flops = operations(job, images, trained)
    asked = resources.gpu
    gpu = (model.gpu_share(job) if asked == "auto" else float(asked)) if use_gpu else 0.0
    return PlannedJob(
        job, flops, model.seconds(job, flops), model.measured(job), gpu, resources.cpu
    )


# ------------------------------------------------------------------ showing it


def summary(plan: Plan) -> dict[str, Any]:
    """The plan's figures as JSON values."""
    states = [status.state for status in plan.states.values()]
    return {
        "experiment": plan.experiment.name,
        "trials": len(plan.states),
        "trials_by_state": {state: states.count(state) for state in sorted(set(states))},
        "jobs": len(plan.jobs),
        "trainings": len(plan.trained),
        "trainings_saved_by_sharing": plan.saved_trainings,
        "sharing_methods": plan.sharing,
        "pending_jobs": len(plan.pending),
        "devices": plan.devices,
        "work_hours": plan.work_s / 3600,
        "makespan_hours": plan.makespan_s / 3600,
        "lower_bound_hours": plan.lower_bound_s / 3600,
        "utilisation": plan.utilisation,
    }


def as_json(plan: Plan) -> dict[str, Any]:
    """The figures, and every pending job with its place."""
    rows = [
        {
            "job": item.planned.job.key,
            "title": item.planned.job.title,
            "trials": list(item.planned.job.trial_ids),
            "hours": item.planned.seconds / 3600,
            "measured": item.planned.measured,
            "gpu": item.planned.gpu,
            "device": item.device,
            "start_hours": item.start_s / 3600,
        }
        for item in plan.placements
    ]
    return {**summary(plan), "order": rows}


def table(plan: Plan) -> RenderableType:
    """The plan for a terminal: totals, then the longest jobs first."""
    facts = summary(plan)
    done = len(plan.states) - sum(len(item.job.trials) for item in plan.pending)
    unit = "GPU" if any(item.gpu for item in plan.pending) else "worker"
    lines = [
        f"{plan.experiment.name}: {facts['trials']} trials in {facts['jobs']} jobs "
        f"({facts['trainings_saved_by_sharing']} trainings saved by sharing); {done} trials done, "
        f"{len(plan.pending)} jobs left.",
    ]
    if not plan.pending:
        return Text(lines[0])
    if plan.saved_trainings:
        asked = len(plan.trained) + plan.saved_trainings
        lines.append(
            f"{len(plan.trained)} trainings serve {asked} trials, "
            f"{plan.saved_trainings / asked:.0%} fewer; shared by the trials of "
            f"{', '.join(plan.sharing)}."
        )
    guess = "" if all(item.measured for item in plan.pending) else " (a guess until jobs finish)"
    lines.append(
        f"About {duration(plan.work_s)} of {unit} time{guess}; {duration(plan.makespan_s)} on "
        f"{plan.devices} {unit}{'s' if plan.devices > 1 else ''}, at best "
        f"{duration(plan.lower_bound_s)}, {plan.utilisation:.0%} busy."
    )
    rows = Table(box=None, pad_edge=False)
    for heading in ("start", "takes", unit, "job", "trials that share it"):
        rows.add_column(heading, justify="right" if heading in ("start", "takes") else "left")
    for item in plan.placements[:SHOWN]:
        shared = ", ".join(_cells(item.planned.job))
        rows.add_row(
            duration(item.start_s),
            duration(item.planned.seconds),
            str(item.device) + (f" ({item.planned.gpu:.2g})" if 0 < item.planned.gpu < 1 else ""),
            item.planned.job.title,
            shared,
        )
    rest = len(plan.pending) - SHOWN
    tail = [Text(f"... and {rest} more jobs; --json lists all.")] if rest > 0 else []
    return Group(*(Text(line) for line in lines), rows, *tail)


def _cells(job: Job) -> list[str]:
    """A job's trials, by variant where options that only scoring reads tell them apart."""
    several = len({trial.method.label for trial in job.trials}) > 1
    return [
        f"{trial.method.label} {_cell(trial)}" if several else _cell(trial) for trial in job.trials
    ]


def _cell(trial: Trial) -> str:
    shots = f"{trial.shot}-shot" if trial.way == 1 else f"{trial.way}-way {trial.shot}-shot"
    return shots if trial.dataset == trial.train_on else f"{trial.dataset.name} {shots}"


def duration(seconds: float) -> str:
    """42 s, 3 min 20 s, 5 h 12 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 and whole % 60 else "")
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def draw_gantt(plan: Plan, path: Path) -> None:
    """Devices down, hours across, one bar per job, one colour per method."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    methods = sorted({item.planned.job.first.method.label for item in plan.placements})
    palette = colormaps["tab10"]
    colours = {name: palette(index % 10) for index, name in enumerate(methods)}
    figure = Figure(figsize=(10, min(20.0, 1.5 + 0.25 * plan.devices)), layout="constrained")
    axes = figure.subplots()
    for name in methods:
        bars = [p for p in plan.placements if p.planned.job.first.method.label == name]
        axes.barh(
            [p.device for p in bars],
            [p.planned.seconds / 3600 for p in bars],
            left=[p.start_s / 3600 for p in bars],
            color=colours[name],
            edgecolor="white",
            linewidth=0.3,
        )
    axes.set(xlabel="hours", ylabel="device", title=f"{plan.experiment.name}: planned")
    axes.invert_yaxis()
    axes.legend(handles=[Patch(color=colours[name], label=name) for name in methods], fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
