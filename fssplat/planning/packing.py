"""How many jobs run at once, in which order they start, and on which device at what time."""

import heapq
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fssplat.common.errors import InputError
from fssplat.experiment.schema import ExperimentSpec, ResourceSpec
from fssplat.experiment.trial import Job
from fssplat.planning.cost import local_gpus


@dataclass(frozen=True)
class PlannedJob:
    """A job with its unfinished trials, and the predicted cost of these."""

    job: Job  # its unfinished trials only
    flops: float
    seconds: float
    measured: bool  # whether the prediction uses finished jobs of the same kind
    gpu: float  # share of a GPU, or a number of GPUs; 0 on CPU
    cpu: float
    training_share: float = 0.0  # of the whole job's operations; 0 if nothing is to be trained
    done: float = 0.0  # share of the training that its checkpoint has
    step: int = 0  # of that checkpoint


@dataclass(frozen=True)
class Machine:
    """Cores and GPUs of all nodes together."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Placement:
    """A job on the time line of one device."""

    planned: PlannedJob
    device: int
    start_s: float


def this_machine() -> Machine:
    return Machine(os.cpu_count() or 1, local_gpus())


def machine_with_gpus(gpus: int) -> Machine:
    """This many GPUs and enough cores for all jobs; with 0, the cores of this machine."""
    return Machine(sys.maxsize if gpus else os.cpu_count() or 1, gpus)


def check_resources(experiment: ExperimentSpec) -> None:
    """Raises InputError for a share of GPUs such as 1.5, for which Ray would abort a whole run."""
    gpu = experiment.resources.gpu
    if gpu != "auto" and gpu > 1 and gpu != int(gpu):
        raise InputError(
            f"{experiment.name}: resources.gpu is {gpu:g}; a job takes a share of one GPU "
            "(0 to 1) or a whole number of them."
        )


def devices_in_use(machine: Machine, resources: ResourceSpec, use_gpu: bool) -> int:
    """Devices in use at the same time: GPUs, or on a machine without GPUs the jobs that fit.

    Cores and `max_concurrent` limit the number of jobs, and so the GPUs. A job that shares a GPU
    counts as if it had one alone, so a plan can show more of these jobs at once than will run.
    """
    jobs_at_once = max(1, int(machine.cpus / resources.cpu))
    if resources.max_concurrent is not None:
        jobs_at_once = min(jobs_at_once, resources.max_concurrent)
    if not use_gpu:
        return jobs_at_once
    each = 1 if resources.gpu == "auto" else math.ceil(resources.gpu)
    return max(1, min(machine.gpus, jobs_at_once * each))


def in_start_order(pending: Sequence[PlannedJob]) -> list[PlannedJob]:
    """Jobs grouped by GPUs and cores, longest first in each group; equal ones in the grid's order.

    Ray reuses a worker only for a job with the same GPUs and cores, and changes the order of jobs
    if groups alternate. The group with the longest job is first.
    """
    longest: dict[tuple[float, float], float] = {}
    for item in pending:
        group = (item.gpu, item.cpu)
        longest[group] = max(longest.get(group, 0.0), item.seconds)
    return sorted(pending, key=lambda item: (-longest[item.gpu, item.cpu], item.gpu, -item.seconds))


def place_jobs(pending: Sequence[PlannedJob], devices: int) -> list[Placement]:
    """Start the jobs in order, each when its devices are free. Raises InputError if too few."""
    if all(item.gpu in (0.0, 1.0) for item in pending):
        return _place_whole(pending, devices)
    free = [1.0] * devices  # share of each
    # end, number of the job, its devices, its share of each
    running: list[tuple[float, int, tuple[int, ...], float]] = []
    now, placements = 0.0, []
    for number, item in enumerate(pending):
        need, share = max(1, round(item.gpu)), min(item.gpu or 1.0, 1.0)
        while len(fitting := [d for d in range(devices) if free[d] >= share - 1e-6]) < need:
            if not running:
                raise InputError(
                    f"{item.job.title} needs {need} GPUs at once; the plan has {devices}. "
                    "Raise --gpus or lower resources.gpu."
                )
            now, _, used, returned = heapq.heappop(running)
            for device in used:
                free[device] += returned
        chosen = tuple(sorted(fitting, key=lambda d: (free[d], d))[:need])  # fill the fullest
        for device in chosen:
            free[device] -= share
        heapq.heappush(running, (now + item.seconds, number, chosen, share))
        placements.append(Placement(item, chosen[0], now))
    return placements


def _place_whole(pending: Sequence[PlannedJob], devices: int) -> list[Placement]:
    free = [(0.0, device) for device in range(devices)]  # when each is free
    placed = []
    for item in pending:
        start, device = heapq.heappop(free)
        placed.append(Placement(item, device, start))
        heapq.heappush(free, (start + item.seconds, device))
    return placed
