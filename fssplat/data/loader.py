"""Training batches: the same sequence for any number of workers and any first step.

A batch depends only on the trial and the number of the step. A worker makes whole batches and
sends bytes (uint8 images and labels); `EpisodeBatch.to` converts them to normalised floats on the
device.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from fssplat.common.errors import InputError
from fssplat.data.augmentation import augment
from fssplat.data.batch import EpisodeBatch
from fssplat.data.episodes.seeded_draws import stream
from fssplat.data.episodes.training import TrainingEpisodes
from fssplat.data.folds import ignored_classes
from fssplat.data.index import Dataset
from fssplat.data.transforms import Label
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import TrainingSpec
from fssplat.experiment.trial import Trial

PREFETCH = 2  # batches that each worker prepares in advance


def training_episodes(dataset: Dataset, trial: Trial) -> TrainingEpisodes:
    """The training episodes of a trial; `dataset` as for `training_batches`."""
    return training_batches(dataset, trial).episodes


def training_batches(dataset: Dataset, trial: Trial) -> "TrainingBatches":
    """A trial's training batches by step, from `dataset`, its `train_on`."""
    assert dataset.info.name == trial.train_on.name, "the data set is not the trial's train_on"
    return TrainingBatches(dataset, trial.fold, trial.protocol, trial.training, trial.way)


def training_loader(
    dataset: Dataset, trial: Trial, first_step: int, steps: int, workers: int = 0, pin: bool = False
) -> Iterator[EpisodeBatch]:
    """The batches of steps `first_step` to `steps` - 1, read ahead by `workers` processes,
    and put into pinned memory if `pin`.

    An InputError in a worker is raised here unchanged.
    """
    import torchvision.io  # noqa: F401 - slow: import once, before workers are forked

    loader = DataLoader(
        _BatchOrError(training_batches(dataset, trial)),
        batch_size=None,  # an item is a batch already
        sampler=range(first_step, steps),
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # leaves the global random state alone
    )
    return map(_or_raise, iter(loader))


class _BatchOrError(TorchDataset[EpisodeBatch | InputError]):
    """Step -> batch or InputError; the loader would add 25 lines to an error that is raised."""

    def __init__(self, batches: "TrainingBatches") -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> EpisodeBatch | InputError:
        try:
            return self.batches[step]
        except InputError as error:
            return error


def _or_raise(item: EpisodeBatch | InputError) -> EpisodeBatch:
    if isinstance(item, InputError):
        raise item
    return item


class TrainingBatches(TorchDataset[EpisodeBatch]):
    """Step -> batch; can be pickled for worker processes."""

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
        """Augmented uint8 [3, S, S] and [S, S]: 1..n the classes, 0 others, 255 ignored."""
        size, changes = self.training.size, self.training.augment
        return augment(self.dataset.image(row), self.target(row, classes), size, changes, rng)

    def target(self, row: int, classes: tuple[int, ...]) -> Label:
        """Label before augmentation; novel classes are 0, or 255 with `novel: ignore`."""
        return self.dataset.target(row, classes, self.ignored)
