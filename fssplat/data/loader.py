"""Training batches: the same sequence for any number of workers, from any step on.

A step's batch depends on the trial and the step's number alone. A worker makes whole batches and
sends bytes (uint8 images and labels); `EpisodeBatch.to` turns them into normalised floats on the
device.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from fssplat.common.errors import InputError
from fssplat.data.batch import EpisodeBatch
from fssplat.data.episodes.seeded_draws import stream
from fssplat.data.episodes.training import TrainingEpisodes
from fssplat.data.folds import ignored_classes
from fssplat.data.index import Dataset
from fssplat.data.transforms import Label, augment
from fssplat.experiment.grid import Trial
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import TrainingSpec

PREFETCH = 2  # batches that each worker keeps ready


def training_episodes(dataset: Dataset, trial: Trial) -> TrainingEpisodes:
    """The episodes that a trial is trained on, from the data set that it is trained on."""
    return training_batches(dataset, trial).episodes


def training_batches(dataset: Dataset, trial: Trial) -> "TrainingBatches":
    """A trial's batches by step. `dataset` is the one that the trial is trained on."""
    assert dataset.info.name == trial.train_on.name, "the data set is not the trial's train_on"
    return TrainingBatches(dataset, trial.fold, trial.protocol, trial.training, trial.way)


def training_loader(
    dataset: Dataset, trial: Trial, first_step: int, steps: int, workers: int = 0, pin: bool = False
) -> Iterator[EpisodeBatch]:
    """The batches of steps `first_step` to `steps` - 1, read ahead by `workers` processes,
    and put into pinned memory if `pin`.

    An InputError in a worker reaches the caller as it was raised there.
    """
    import torchvision.io  # noqa: F401 - slow: here, before workers are forked, not in each of them

    loader = DataLoader(
        _OrError(training_batches(dataset, trial)),
        batch_size=None,  # an item is a batch already
        sampler=range(first_step, steps),
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # leaves the global random state alone
    )
    return map(_raised, iter(loader))


class _OrError(TorchDataset[EpisodeBatch | InputError]):
    """Step -> batch, or its InputError as a value: raised, the loader would wrap it in 25 lines."""

    def __init__(self, batches: "TrainingBatches") -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> EpisodeBatch | InputError:
        try:
            return self.batches[step]
        except InputError as error:
            return error


def _raised(item: EpisodeBatch | InputError) -> EpisodeBatch:
    if isinstance(item, InputError):
        raise item
    return item


class TrainingBatches(TorchDataset[EpisodeBatch]):
    """Step -> batch; pickles to wherever a worker starts."""

    def __init__(
        self,
        dataset: Dataset,
        fold: int,
        protocol: Protocol,
        training: TrainingSpec,
        way: int = 1,
    ) -> None:
        self.dataset, self.fold, self.protocol = dataset, fold, protocol
        self.training = training
        self.episodes = TrainingEpisodes(dataset, fold, protocol, way, training.shot, training.seed)
        self.ignored = ignored_classes(dataset.info, fold, protocol)

    def __getitem__(self, step: int) -> EpisodeBatch:
        batch, shot = self.training.batch, self.training.shot
        places = [self.episodes.at(n) for n in range(step * batch, (step + 1) * batch)]
        episodes = [self.episodes(*place) for place in places]
        queries, supports = [], []
        for place, episode in zip(places, episodes, strict=True):
            rng = stream("augment", self.training.seed, *place)
            queries.append(self._image(episode.query, episode.classes, rng))
            for number, row in enumerate(episode.supports):
                class_id = episode.classes[number // shot]
                supports.append(self._image(row, (class_id,), rng))
        query, target = (default_collate(list(part)) for part in zip(*queries, strict=True))
        images, masks = (default_collate(list(part)) for part in zip(*supports, strict=True))
        lead = (batch, len(episodes[0].classes), shot)
        images, masks = (part.view(*lead, *part.shape[1:]) for part in (images, masks))
        return EpisodeBatch(query, target, images, masks)

    def _image(
        self, row: int, classes: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """uint8 [3, S, S] and [S, S]: 1..n for the classes, 0 everything else, 255 ignored."""
        size, changes = self.training.size, self.training.augment
        return augment(self.dataset.image(row), self.target(row, classes), size, changes, rng)

    def target(self, row: int, classes: tuple[int, ...]) -> Label:
        """Only the episode's classes are named; novel ones are background, or ignored if so set."""
        return self.dataset.target(row, classes, self.ignored)
