"""Runs the networks of a table on a few of its episodes and keeps what figures show.

One network is in memory at a time, and each is opened once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fssplat.common.errors import InputError
from fssplat.engine.device import deterministic
from fssplat.engine.predicting.inner_maps import InsideEpisode, over_image
from fssplat.engine.scoring.encoder import Role
from fssplat.engine.scoring.panels import Pixels, chosen
from fssplat.engine.scoring.scorer import ManifestEpisode
from fssplat.methods.base import LabelledImage
from fssplat.report.blocks import Block, Cell, Row
from fssplat.report.figures.tiles import Kind
from fssplat.report.sections.inside.models import Models, Opened
from fssplat.report.sections.labels import row_name

Map = npt.NDArray[np.float32]  # [h, w]
COLUMNS = 6  # episodes in a figure, at most; at least one per fold
LABELLED = 5  # training images with computed labels


@dataclass(frozen=True)
class Column:
    """One episode of a figure, as one method sees it; images at their original size."""

    fold: int
    seed: int
    episode: int
    name: str  # of the first way's class
    query_key: str
    support_key: str
    query: Pixels
    truth: npt.NDArray[np.uint8]
    support: Pixels  # the first shot of the first way
    support_mask: npt.NDArray[np.uint8]
    prediction: npt.NDArray[np.uint8]
    iou: float
    maps: Mapping[str, Map]  # on the method's own grid, over the padded input
    shown: Mapping[str, Map]  # the same over the image alone
    scales: Mapping[str, Kind]  # the maps' `View.scale`
    on_support: frozenset[str]  # names of maps that belong to the support


@dataclass(frozen=True)
class Cloud:
    """Object vectors of one method on one fold."""

    fold: int
    layer: str
    vectors: npt.NDArray[np.float32]  # [i, c]
    classes: tuple[str, ...]  # of each vector
    images: tuple[str, ...]
    left_out: int = 0  # objects that are too small for the layer: their vectors are 0


@dataclass
class RowInside:
    """All that was collected of one method."""

    name: str
    even: list[Column] = field(default_factory=list)  # the same episodes for every method
    worst: list[Column] = field(default_factory=list)  # its failures
    clouds: list[Cloud] = field(default_factory=list)
    labelled: list[LabelledImage] = field(default_factory=list)


def collect(
    block: Block,
    models: Models,
    prototypes: int,
    problems: list[str],
    progress: Callable[[str], None],
) -> list[RowInside]:
    """Every row with a result. What cannot be opened adds a sentence to `problems`.

    `prototypes` is the largest number of vectors of a method on a fold.
    """
    per_fold = max(1, COLUMNS // len(block.folds))
    found = []
    for row in block.rows:
        of_row = RowInside(row_name(row, block))
        for fold in block.folds:
            cell = first_cell(row, fold)
            if cell is None:
                continue
            progress(f"Maps: {block.name}, {of_row.name}, fold {fold}")
            try:
                with deterministic():
                    _collect_fold(of_row, cell, models, per_fold, prototypes)
            except InputError as error:
                problems.append(f"{cell.trial.title}: {error}")
        found.append(of_row)
    return found


def first_cell(row: Row, fold: int) -> Cell | None:
    """The finished trial of a fold with the lowest training seed."""
    of_fold = [cell for cell in row.cells if cell.trial.fold == fold]
    return min(of_fold, key=lambda cell: cell.trial.training.seed, default=None)


def _collect_fold(
    of_row: RowInside, cell: Cell, models: Models, per_fold: int, prototypes: int
) -> None:
    opened = models.open(cell)
    of_row.even += [column(opened, one) for one in chosen(opened.first_seed(), per_fold)]
    of_row.worst += [column(opened, one) for one in worst(opened, cell, models, per_fold)]
    roles = balanced(opened.episodes, cell.trial.shot, prototypes)
    vectors = opened.inside.prototypes(roles) if roles else None
    if vectors is not None:
        classes = opened.dataset.info.classes
        layer, values = vectors[0], vectors[1].numpy()
        seen = [i for i, vector in enumerate(values) if vector.any()]
        kept = evened(seen, [role.class_id for role in roles])
        of_row.clouds.append(
            Cloud(
                cell.trial.fold,
                layer,
                values[kept],
                tuple(classes[roles[i].class_id - 1] for i in kept),
                tuple(str(opened.dataset.keys[roles[i].row]) for i in kept),
                len(roles) - len(seen),
            )
        )
    if not of_row.labelled:
        of_row.labelled = models.labelled_images(cell.trial, LABELLED)


def worst(opened: Opened, cell: Cell, models: Models, count: int) -> list[ManifestEpisode]:
    """The episodes of the first seed with the lowest IoU of the first way, one of each class.

    If there are fewer classes than `count`, so are the episodes.
    """
    counts = models.evidence.counts(cell.trial_id)
    assert counts is not None, "open() has read them"
    by_index = {one.index: one for one in opened.first_seed()}
    seed = opened.episodes[0].seed
    rows = [i for i in range(len(counts)) if counts.seed[i] == seed and counts.way[i] == 1]
    rows.sort(key=lambda i: (float(counts.iou[i]), int(counts.episode[i])))
    by_class: dict[int, int] = {}
    for i in rows:
        by_class.setdefault(int(counts.class_id[i]), int(counts.episode[i]))
    return [by_index[episode] for episode in list(by_class.values())[:count]]


def balanced(episodes: Sequence[ManifestEpisode], shot: int, count: int) -> list[Role]:
    """At most `count` distinct supports, equally many of each class, in the episodes' order."""
    by_class: dict[int, list[Role]] = {}
    for role in dict.fromkeys(role for one in episodes for role in one.roles(shot)[1:]):
        by_class.setdefault(role.class_id, []).append(role)
    if not by_class:
        return []
    each = min(count // len(by_class), *map(len, by_class.values()))
    return [role for class_id in sorted(by_class) for role in by_class[class_id][:each]]


def evened(indices: Sequence[int], classes: Sequence[int]) -> list[int]:
    """As many of the indices of each class as the smallest class has; a class may have none."""
    by_class: dict[int, list[int]] = {}
    for index in indices:
        by_class.setdefault(classes[index], []).append(index)
    each = min(map(len, by_class.values()), default=0)
    return [index for of_class in by_class.values() for index in of_class[:each]]


def column(opened: Opened, episode: ManifestEpisode) -> Column:
    """Run the network on one episode."""
    inside, dataset = opened.inside.episode(episode), opened.dataset
    drawn, trial = episode.drawn, opened.inside.trial
    shown = dict(_over_images(inside, opened))
    query, support = drawn.query, drawn.supports[0]
    return Column(
        trial.fold, episode.seed, episode.index,
        dataset.info.classes[drawn.classes[0] - 1],
        str(dataset.keys[query]), str(dataset.keys[support]),
        dataset.image(query), dataset.target(query, drawn.classes),
        dataset.image(support), dataset.mask(support, drawn.classes[0]),
        inside.prediction.numpy().astype(np.uint8), inside.iou,
        {name: view.values[0].numpy() for name, view in inside.views.items()},
        shown,
        {name: view.scale for name, view in inside.views.items()},
        frozenset(name for name, view in inside.views.items() if view.of == "support"),
    )  # fmt: skip


def _over_images(inside: InsideEpisode, opened: Opened) -> Iterator[tuple[str, Map]]:
    drawn, inputs = inside.episode.drawn, opened.inside.inputs
    for name, view in inside.views.items():
        row = drawn.query if view.of == "query" else drawn.supports[0]
        yield name, over_image(view, inputs, row).numpy()
