"""Proof on the actual training stream that no label of a novel class reaches a loss.

The check does not trust what it checks: it reads the stored labels itself and compares them, pixel
by pixel, with the masks and targets that training gets.
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
from fssplat.data.labels import IGNORE
from fssplat.data.loader import TrainingBatches

SHOWN = 3  # violations that an error spells out


@dataclass
class Audit:
    """What was looked at, and what was wrong with it."""

    episodes: int = 0
    images: set[int] = field(default_factory=set)  # rows
    with_novel: set[int] = field(default_factory=set)  # rows that show a novel class somewhere
    classes: Counter[int] = field(default_factory=Counter)  # class id -> episodes about it
    novel_pixels: Counter[str] = field(default_factory=Counter)  # what training saw them as
    violations: list[str] = field(default_factory=list)

    def require_clean(self) -> None:
        """Raises InputError where a novel label got through."""
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
    """Look at the first `steps` batches of a training: classes, images, targets and masks."""
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
    """What is wrong with the tensors of one episode, after every random change."""
    if batch.masks.shape[1] != len(episode.classes):
        yield "the batch has another number of classes than were drawn"
    if _values(batch.target) - {*range(len(episode.classes) + 1), IGNORE}:
        yield "the target holds a value of no class of the episode"
    if _values(batch.masks) - {0, 1, IGNORE}:
        yield "a mask holds a value that is neither object, background nor ignored"


def _values(labels: Tensor) -> set[int]:
    return {*np.unique(labels.numpy()).tolist()}


def check_episode(
    batches: TrainingBatches, episode: Episode, tested: set[int], where: str, found: Audit
) -> None:
    """One drawn episode against the stored labels."""
    dataset = batches.dataset
    base = base_classes(dataset.info, batches.fold, batches.protocol)
    names = dataset.info.classes
    found.episodes += 1
    for class_id in episode.classes:
        found.classes[class_id] += 1
        if class_id not in base:
            found.violations.append(f"{where}: it is about {names[class_id - 1]}, a novel class")
    for row, classes in _roles(episode):
        found.images.add(row)
        if row in tested:
            found.violations.append(f"{where}: image {dataset.keys[row]} is one that tests")
        for problem in check_image(batches, row, classes, found):
            found.violations.append(f"{where}, image {dataset.keys[row]}: {problem}")


def check_image(
    batches: TrainingBatches, row: int, classes: tuple[int, ...], found: Audit
) -> Iterator[str]:
    """What is wrong with the target that training gets of one image."""
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
    """Each image with the classes that its target names."""
    yield episode.query, episode.classes
    shot = len(episode.supports) // len(episode.classes)
    for place, row in enumerate(episode.supports):
        yield row, (episode.classes[place // shot],)


def _tested_rows(batches: TrainingBatches) -> set[int]:
    """Rows that evaluation may draw from on the same fold."""
    lines = novel_candidates(batches.dataset, batches.fold, batches.protocol)
    return {*lines.rows.tolist()}
