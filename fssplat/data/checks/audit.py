"""Check on real training batches that no label of a novel class reaches a loss.

The stored labels are read independently and compared, pixel by pixel, with the masks and targets
that a training uses.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from fssplat.common.errors import InputError
from fssplat.data.batch import EpisodeBatch
from fssplat.data.episodes.candidates import novel_candidates
from fssplat.data.episodes.training import Episode
from fssplat.data.folds import base_classes, novel_classes
from fssplat.data.loader import TrainingBatches
from fssplat.data.masks.labels import IGNORE

SHOWN = 3  # number of violations in the message


@dataclass
class Audit:
    """What was checked, and the violations found."""

    episodes: int = 0
    images: set[int] = field(default_factory=set)  # rows
    with_novel: set[int] = field(default_factory=set)  # rows of images that show a novel class
    classes: Counter[int] = field(default_factory=Counter)  # class id -> episodes with this class
    novel_pixels: Counter[str] = field(default_factory=Counter)  # label in training -> novel pixels
    violations: list[str] = field(default_factory=list)

    def require_clean(self) -> None:
        """Raises InputError if there are violations."""
        if self.violations:
            shown = "; ".join(self.violations[:SHOWN])
            more = len(self.violations) - SHOWN
            raise InputError(
                f"audit: {len(self.violations)} violations in {self.episodes} training episodes: "
                f"{shown}{f'; and {more} more' if more > 0 else ''}. Results trained on this data "
                f"are not few-shot results: build the data set again, then audit it."
            )


def audit(
    batches: TrainingBatches,
    steps: int,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Audit:
    """Check the first `steps` batches of a training: classes, images, targets and masks."""
    found = Audit()
    tested = _tested_rows(batches)
    size = batches.training.batch
    for step in range(steps):
        for batch, number in zip(
            batches[step].split(1), range(step * size, (step + 1) * size), strict=True
        ):
            epoch, i = batches.episodes.at(number)
            episode, where = batches.episodes(epoch, i), f"epoch {epoch}, episode {i}"
            found.violations += [f"{where}: {text}" for text in check_batch(batch, episode)]
            check_episode(batches, episode, tested, where, found)
        on_step(step + 1, steps)
    return found


def check_batch(batch: EpisodeBatch, episode: Episode) -> Iterator[str]:
    """Problems of the tensors of one episode, after augmentation."""
    if batch.masks.shape[1] != len(episode.classes):
        yield "the batch has another number of classes than were drawn"
    if _values(batch.target) - {*range(len(episode.classes) + 1), IGNORE}:
        yield "the target has a value that is no class of the episode"
    if _values(batch.masks) - {0, 1, IGNORE}:
        yield "a mask has a value that is neither object, background nor ignored"


def _values(labels: Tensor) -> set[int]:
    return {*np.unique(labels.numpy()).tolist()}


def check_episode(
    batches: TrainingBatches, episode: Episode, tested: set[int], where: str, found: Audit
) -> None:
    """Compare one episode with the stored labels; add the result to `found`."""
    dataset = batches.dataset
    base = base_classes(dataset.info, batches.fold, batches.protocol)
    names = dataset.info.classes
    found.episodes += 1
    for class_id in episode.classes:
        found.classes[class_id] += 1
        if class_id not in base:
            found.violations.append(f"{where}: it contains the novel class {names[class_id - 1]}")
    for row, classes in _roles(episode):
        found.images.add(row)
        if row in tested:
            found.violations.append(f"{where}: image {dataset.keys[row]} is a test image")
        for problem in check_image(batches, row, classes, found):
            found.violations.append(f"{where}, image {dataset.keys[row]}: {problem}")


def check_image(
    batches: TrainingBatches, row: int, classes: tuple[int, ...], found: Audit
) -> Iterator[str]:
    """Problems of the target that training uses for one image."""
    dataset, protocol = batches.dataset, batches.protocol
    stored = dataset.label(row)
    target = batches.target(row, classes)
    novel = novel_classes(dataset.info, batches.fold, protocol)
    hidden = np.isin(stored, novel)
    if hidden.any():
        found.with_novel.add(row)
        found.novel_pixels["background"] += int((target[hidden] == 0).sum())
        found.novel_pixels["ignored"] += int((target[hidden] == IGNORE).sum())
        if protocol.novel == "exclude-image":
            yield "it shows a novel class, and the protocol excludes such images"
        wanted = IGNORE if protocol.novel == "ignore" else 0
        if (target[hidden] != wanted).any():
            yield f"novel pixels are not all {'ignored' if wanted else 'background'}"
    for way, class_id in enumerate(classes, start=1):
        named = target == way
        if (stored[named] != class_id).any():
            yield f"pixels labelled {dataset.info.classes[class_id - 1]} are not of that class"


def _roles(episode: Episode) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each image of an episode with the classes in its target."""
    yield episode.query, episode.classes
    shot = len(episode.supports) // len(episode.classes)
    for place, row in enumerate(episode.supports):
        yield row, (episode.classes[place // shot],)


def _tested_rows(batches: TrainingBatches) -> set[int]:
    """Rows from which evaluation on the same fold may draw."""
    candidates = novel_candidates(batches.dataset, batches.fold, batches.protocol)
    return {*candidates.rows.tolist()}
