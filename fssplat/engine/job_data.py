"""The data sets of a job: opened, checked, and read as batches, base images and manifests."""

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import torch

from fssplat.backbones import weight_content
from fssplat.common.errors import InputError
from fssplat.data.batch import EpisodeBatch
from fssplat.data.episodes.manifest import Manifest, Part, manifest
from fssplat.data.index import Dataset
from fssplat.data.loader import training_episodes, training_loader
from fssplat.data.places import default_root
from fssplat.data.public_lists import lists_content
from fssplat.engine.base_images import BaseImages
from fssplat.engine.checkpoint import identity
from fssplat.engine.device import pins_batches
from fssplat.engine.settings import RunSettings
from fssplat.engine.training import schedule
from fssplat.engine.training.selection import SelectionByScore, selection_trial
from fssplat.experiment.datasets import INFO_FILE
from fssplat.experiment.schema import DatasetSpec
from fssplat.experiment.trial import Job, Trial


class JobData:
    """Open data sets by name; a `training.loop.TrainingData`."""

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self.datasets = dict(datasets)

    @classmethod
    def open(cls, job: Job, fingerprints: Mapping[str, str] | None = None) -> "JobData":
        """Open the data sets that the job names.

        Raises InputError if one is missing, has another name, or has changed since planning:
        `fingerprints` has the planned ones by name.
        """
        specs = {s.name: s for trial in job.trials for s in (trial.train_on, trial.dataset)}
        datasets = {name: open_dataset(spec) for name, spec in specs.items()}
        for name, fingerprint in (fingerprints or {}).items():
            found = datasets[name].info.fingerprint if name in datasets else fingerprint
            if found != fingerprint:
                raise InputError(
                    f"{datasets[name].root}: data set changed since planning (fingerprint {found}, "
                    f"was {fingerprint}). Launch again."
                )
        for trial in job.trials:
            _check_contents(trial, fingerprints or {})
        return cls(datasets)

    # -------------------------------------------------------------- training

    def steps(self, trial: Trial) -> int:
        """Optimiser steps of the trial's training."""
        if trial.training.steps is not None:
            return trial.training.steps
        episodes = training_episodes(self.datasets[trial.train_on.name], trial)
        return schedule.steps_of(trial.training, len(episodes))

    def batches(
        self, trial: Trial, first_step: int, steps: int, settings: RunSettings
    ) -> Iterator[EpisodeBatch]:
        """The batches of steps `first_step` to `steps` - 1."""
        dataset = self.datasets[trial.train_on.name]
        pin = pins_batches(settings.device)
        return training_loader(dataset, trial, first_step, steps, settings.workers, pin)

    def base_images(self, trial: Trial) -> BaseImages:
        """The images that a method may read before training."""
        return BaseImages(self.datasets[trial.train_on.name], trial)

    def selection(
        self, trial: Trial, device: torch.device, count: int | None = None
    ) -> SelectionByScore | None:
        """How the protocol selects weights, by `count` episodes; None if it takes the last ones."""
        if trial.protocol.selection == "last":
            return None
        scored = selection_trial(trial, count)
        dataset = self.datasets[scored.dataset.name]
        part: Part = "selection" if trial.protocol.selection == "base-val" else "novel"
        episodes = manifest(
            dataset, scored.fold, scored.shot, scored.protocol, 0, scored.way, part=part
        )
        if episodes.skipped_reason:
            raise InputError(
                f"{trial.title}: selection {trial.protocol.selection} has no episodes "
                f"({episodes.skipped_reason}). Set protocol.selection=last."
            )
        return SelectionByScore(scored, dataset, episodes, device)

    # -------------------------------------------------------------- scoring

    def dataset(self, trial: Trial) -> Dataset:
        """The data set that the trial is scored on."""
        return self.datasets[trial.dataset.name]

    def manifests(self, trial: Trial) -> dict[int, Manifest]:
        """Episode seed -> the trial's episodes."""
        dataset, rules, source = self.dataset(trial), trial.protocol, trial.train_on.name
        return {
            seed: manifest(dataset, trial.fold, trial.shot, rules, seed, trial.way, source)
            for seed in rules.episode_seeds
        }


def _check_contents(trial: Trial, planned: Mapping[str, str]) -> None:
    """Raises InputError if weights or lists on this machine differ from the planned ones."""
    spec, rules = trial.backbone, trial.protocol
    here = {spec.source: (weight_content(spec), f"backbone {spec.name}: weight file")}
    given = trial.training.checkpoint
    if given:
        here[given] = (identity(Path(given))[1], given)
    for data in (trial.train_on, trial.dataset):
        here[rules.lists_of(data.name)] = (lists_content(data, rules), f"{data.name}: public lists")
    for name, (found, what) in here.items():
        if found != planned.get(name, found):
            raise InputError(
                f"{what} changed since planning ({found or 'missing'}, was {planned[name]}). Put "
                "the same file on every machine and launch again."
            )


def open_dataset(spec: DatasetSpec) -> Dataset:
    """The data set at `spec.root`, else at $FSSPLAT_DATA/<name>, else at data/<name>."""
    root = spec.root or default_root(spec.name)
    info = Path(root) / INFO_FILE
    dataset = _shared_dataset(root, info.stat().st_mtime_ns if info.is_file() else 0, os.getpid())
    if dataset.info.name != spec.name:
        raise InputError(
            f"{root}: contains {dataset.info.name}, not {spec.name}. Set datasets.{spec.name}.root."
        )
    return dataset


@lru_cache(maxsize=8)
def _shared_dataset(root: str, changed: int, process: int) -> Dataset:
    """An open data set, shared by the jobs of one process until it is rebuilt."""
    return Dataset.open(root)
