"""Training episodes: a pure function of (seed, epoch, i), whoever asks and in whatever order.

One pass over the training list is an epoch. Its entries, drawn in a new order every epoch, are
image       an image; the class is then drawn from those of its base classes that may be queried
class-line  an (image, class) pair, as in HSNet's PASCAL lists
class       nothing: class first, then the query among its images; as many as there are images
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fssplat.common.errors import InputError
from fssplat.data.episodes.candidates import Lines, training_lines, usable
from fssplat.data.episodes.seeded_draws import Rows, pick, sample, shuffled, stream
from fssplat.data.index import Dataset
from fssplat.experiment.protocols import Protocol


@dataclass(frozen=True)
class Episode:
    """Row numbers of the images and the classes that they are about."""

    query: int
    supports: tuple[int, ...]  # n * k long, way by way
    classes: tuple[int, ...]  # n class ids; the query shows at least one of them


class TrainingEpisodes:
    """Episodes of a fold's base classes; `len` of them make an epoch.

    Raises InputError where classes have too few images, unless the protocol drops those.
    """

    def __init__(
        self,
        dataset: Dataset,
        fold: int,
        protocol: Protocol,
        way: int = 1,
        shot: int = 1,
        seed: int = 0,
    ) -> None:
        self.way, self.shot, self.seed = way, shot, seed
        self.repeat = protocol.supports_repeat
        listed = training_lines(dataset, fold, protocol)
        self.lines, short = usable(dataset, listed, shot, protocol, way)
        self.dropped = tuple(dataset.info.classes[c - 1] for c in short)
        self.notes = self.lines.notes
        check_ways(dataset, self.lines, way, f"fold {fold}")
        self.draw = training_draw(protocol, dataset.info.name)
        self.images = np.fromiter(self.lines.classes_of, dtype=np.int64)
        self.entries = len(self.lines.query_lines if self.draw == "class-line" else self.images)
        self._order = lru_cache(maxsize=2)(self._order_of)

    def __len__(self) -> int:
        return self.entries

    def __reduce__(self) -> str | tuple[object, ...]:
        state = {name: value for name, value in vars(self).items() if name != "_order"}
        return _revived, (state,)

    def __call__(self, epoch: int, i: int) -> Episode:
        """Episode i, from 0, of an epoch."""
        rng = stream("episode", self.seed, epoch, i)
        query, class_id = self._query(rng, epoch, i)
        classes = ways(rng, self.lines, class_id, self.way)
        return with_supports(rng, self.lines, query, classes, self.shot, self.repeat)

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, i) of the position-th episode of a run."""
        return divmod(position, len(self))

    def _query(self, rng: np.random.Generator, epoch: int, i: int) -> tuple[int, int]:
        if self.draw == "class":
            class_id = pick(rng, queried_classes(self.lines))
            return int(pick(rng, self.lines.queries[class_id])), class_id
        entry = self._order(epoch)[i]
        if self.draw == "class-line":
            row, class_id = self.lines.query_lines[entry].tolist()
            return row, class_id
        row = int(self.images[entry])
        return row, pick(rng, self.lines.classes_of[row])

    def _order_of(self, epoch: int) -> Rows:
        return shuffled(stream("epoch", self.seed, epoch), len(self))


def _revived(state: Mapping[str, object]) -> TrainingEpisodes:
    """The other side of pickling."""
    episodes = TrainingEpisodes.__new__(TrainingEpisodes)
    vars(episodes).update(state)
    episodes._order = lru_cache(maxsize=2)(episodes._order_of)
    return episodes


def training_draw(protocol: Protocol, dataset: str) -> str:
    """As the protocol says; HSNet's code, which walks lines elsewhere, draws the class on COCO."""
    if protocol.training_list == "hsnet" and dataset == "coco-20i":
        return "class"
    return protocol.training_draw


# ---------------------------------------------------------------- shared with manifests


def queried_classes(lines: Lines) -> list[int]:
    """Classes that have a query, ascending."""
    return [c for c, rows in sorted(lines.queries.items()) if len(rows)]


def ways(rng: np.random.Generator, lines: Lines, class_id: int, way: int) -> tuple[int, ...]:
    """The query's class among way - 1 others, in a drawn order."""
    if way == 1:
        return (class_id,)
    others = [c for c in queried_classes(lines) if c != class_id]
    chosen = [others[i] for i in shuffled(rng, len(others))[: way - 1]]
    place = int(rng.random() * way)
    return (*chosen[:place], class_id, *chosen[place:])


def with_supports(
    rng: np.random.Generator,
    lines: Lines,
    query: int,
    classes: tuple[int, ...],
    shot: int,
    repeat: bool,
) -> Episode:
    """An episode around a query: each way's supports distinct unless `repeat`, never the query."""
    supports = [row for c in classes for row in sample(rng, lines.supports[c], shot, query, repeat)]
    return Episode(query, tuple(supports), classes)


def check_ways(dataset: Dataset, lines: Lines, way: int, where: str) -> None:
    """Raises InputError where there are fewer classes than an episode takes, or none at all."""
    found = len(queried_classes(lines))
    if found < max(way, 1):
        raise InputError(
            f"{dataset.info.name} {where}: way={way} needs {way} classes with enough images; "
            f"{found} have them. Lower way or shot, or build the data set from more images."
        )
