"""Predicts what a job costs: counted operations, corrected by the times of finished jobs."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from fssplat.experiment.datasets import BUILT_IN
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Job, Trial
from fssplat.results.records import JobRecord

# Multiply-adds of one 224 x 224 image through the whole network, in 1e9; stated by torchvision's
# and timm's model tables. Dilation and block outputs depend on the method; measured times
# correct for them.
GIGA_MACS = {
    "resnet50": 4.1,
    "resnet50_v2": 4.4,
    "resnet101": 7.8,
    "resnet101_v2": 8.1,
    "vgg16": 15.5,
    "vgg16_bn": 15.5,
    "efficientnet_lite0": 0.4,
}
OTHER_GIGA_MACS = 4.0  # a backbone that is not listed
HEAD = 0.5  # a head's forward pass, as a share of the backbone's
BACKWARD = 2.0  # backward over forward, for what is trained
NOMINAL_IMAGES = {name: known.images for name, known in BUILT_IN.items()}
CPU_RATE = 2e10  # operations per second and core, until a job has been measured
GPU_RATE = 1e13  # the same per GPU
JOB_START_S = 2.0  # reading weights and index
HEADROOM = 1.25  # a job may need this many times the memory that was measured
SHARES = (1, 2, 3, 4)  # jobs on one GPU; few values, since Ray starts a worker for each


def operations(job: Job, images: Mapping[str, int], trained: float = 0.0) -> float:
    """Floating-point operations of a job: the rest of its training, and its evaluations.

    `trained` is the share of the training that is done, 0 to 1. `images` counts the training
    images by data set, for schedules in epochs.
    """
    training = (1 - trained) * training_operations(job.first, images)
    return training + sum(map(evaluation_operations, job.trials))


def training_steps(trial: Trial, images: Mapping[str, int]) -> int:
    """Optimiser steps of a training; of one in epochs, a guess if its images are not counted."""
    training = trial.training
    if training.steps is not None:
        return training.steps
    name = trial.train_on.name
    listed = images.get(name, 0) or NOMINAL_IMAGES.get(name, 10_000)
    return (training.epochs or 0) * max(1, listed // training.batch)


def training_operations(trial: Trial, images: Mapping[str, int]) -> float:
    training = trial.training
    encoded = training_steps(trial, images) * training.batch * (1 + training.shot * trial.way)
    one = image_operations(trial.backbone.name, training.size)
    return encoded * one * (1 + HEAD * (1 + BACKWARD))


def evaluation_operations(trial: Trial) -> float:
    """Every distinct image is encoded once; the head runs for each episode and shot."""
    rules = trial.protocol
    episodes = rules.episode_count(trial.dataset.name) * len(rules.episode_seeds)
    per_episode = 1 + trial.shot * trial.way
    listed = NOMINAL_IMAGES.get(trial.dataset.name, 10_000) // 4
    encoded = min(episodes * per_episode, listed * (1 + trial.way))
    size = rules.size_on(trial.dataset.name) or trial.training.size
    one = image_operations(trial.backbone.name, size)
    return one * (encoded + HEAD * episodes * trial.shot * trial.way)


def image_operations(backbone: str, size: int) -> float:
    """One forward pass of a `size` x `size` image."""
    return 2e9 * GIGA_MACS.get(backbone, OTHER_GIGA_MACS) * (size / 224) ** 2


@dataclass
class CostModel:
    """Seconds and GPU share of a job, from its operations and the records of finished ones."""

    records: Iterable[JobRecord] = ()
    gpu: bool = False
    cores: float = 1.0  # of one job, on a machine without GPU
    _ratios: dict[tuple[str, ...], list[float]] = field(default_factory=dict)
    _peaks: dict[str, int] = field(default_factory=dict)  # bytes, by kind of job
    _device_memory: int = 0  # bytes of the smallest measured GPU, where a job may run again

    def __post_init__(self) -> None:
        for record in self.records:
            if (record.device != "cpu") == self.gpu and record.flops > 0:
                ratio = record.seconds / record.flops
                for key in _keys(record.method, record.backbone, record.dataset):
                    self._ratios.setdefault(key, []).append(ratio)
            if record.device_memory:
                kind, peak = record.memory_kind, record.peak_memory
                self._peaks[kind] = max(peak, self._peaks.get(kind, 0))
                smallest = self._device_memory or record.device_memory
                self._device_memory = min(smallest, record.device_memory)

    def seconds(self, job: Job, flops: float) -> float:
        """Predicted run time, from the most similar finished jobs."""
        one = job.first
        for key in _keys(one.method.name, one.backbone.name, one.train_on.name):
            if key in self._ratios:
                return flops * median(self._ratios[key])
        rate = GPU_RATE if self.gpu else CPU_RATE * max(1.0, self.cores)
        return JOB_START_S + flops / rate

    def measured(self, job: Job) -> bool:
        """Whether the prediction uses a finished job of the same method and backbone."""
        one = job.first
        return _keys(one.method.name, one.backbone.name, one.train_on.name)[1] in self._ratios

    def gpu_share(self, job: Job) -> float:
        """1, 1/2, 1/3 or 1/4 of a GPU, by the measured peak memory and HEADROOM."""
        peak = self._peaks.get(memory_kind(job))
        if peak is None:
            return 1.0
        fitting = [n for n in SHARES if n * peak * HEADROOM <= self._device_memory]
        return 1.0 / max(fitting, default=1)


def record_of(
    job: Job,
    seconds: float,
    peak_memory: int,
    device: str,
    device_memory: int,
    images: Mapping[str, int],
) -> JobRecord:
    """The record of a finished job, from which a CostModel predicts others."""
    one = job.first
    return JobRecord(
        method=one.method.name,
        backbone=one.backbone.name,
        dataset=one.train_on.name,
        size=one.training.size,
        batch=one.training.batch,
        device=device,
        flops=operations(job, images),
        seconds=seconds,
        peak_memory=peak_memory,
        device_memory=device_memory,
        memory_kind=memory_kind(job),
    )


def memory_kind(job: Job) -> str:
    """Digest of all settings that the peak memory of a job depends on."""
    one = job.first
    training, evaluation = one.training, one.evaluation
    return digest(
        (one.method.name, one.method.options, one.backbone.name),
        (training.size, training.batch, training.micro_batch, training.shot, training.precision),
        (one.way, max(trial.shot for trial in job.trials), one.protocol.size_on(one.dataset.name)),
        (evaluation.precision, evaluation.batch),
    )


def _keys(method: str, backbone: str, dataset: str) -> list[tuple[str, ...]]:
    """Keys of similar jobs, most similar first; the last one is of all jobs."""
    return [(method, backbone, dataset), (method, backbone), (method,), ()]


def local_gpus() -> int:
    """Number of GPUs that this process can use; none of them is initialised."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return 0
    import torch

    return torch.cuda.device_count()
