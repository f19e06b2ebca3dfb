"""Training episodes: a pure function of (seed, epoch, i).

An epoch is one pass over the training list, in a new order every epoch. What the list contains
depends on `protocol.training_draw`:
image       images; the class is drawn from the base classes that the image may be a query of
class-line  (image, class) pairs, as in HSNet's PASCAL lists
class       nothing: the class is drawn first, then its query; an epoch has as many episodes as
            there are images
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fssplat.common.errors import InputError
from fssplat.common.printing import counted
from fssplat.data.episodes.candidates import Candidates, training_candidates, with_enough_supports
from fssplat.data.episodes.seeded_draws import Rows, pick, sample, shuffled, stream
from fssplat.data.index import Dataset
from fssplat.experiment.protocols import Protocol


@dataclass(frozen=True)
class Episode:
    """Row numbers of the images, and the classes to segment."""

    query: int
    supports: tuple[int, ...]  # n * k long, way by way
    classes: tuple[int, ...]  # n class ids; the query shows at least one


class TrainingEpisodes:
    """Episodes of a fold's base classes; `len` is the number of episodes per epoch.

    Raises InputError if classes have too few images, unless the protocol drops such classes.
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
        listed = training_candidates(dataset, fold, protocol)
        self.candidates, short = with_enough_supports(dataset, listed, shot, protocol, way)
        self.dropped = tuple(dataset.info.classes[c - 1] for c in short)
        self.notes = self.candidates.notes
        check_ways(dataset, self.candidates, way, f"fold {fold}")
        self.draw = training_draw(protocol, dataset.info.name)
        self.images = np.fromiter(self.candidates.classes_of, dtype=np.int64)
        self.entries = len(
            self.candidates.query_pairs if self.draw == "class-line" else self.images
        )
        self._order = lru_cache(maxsize=2)(self._order_of)

    def __len__(self) -> int:
        return self.entries

    def __reduce__(self) -> str | tuple[object, ...]:
        state = {name: value for name, value in vars(self).items() if name != "_order"}
        return _unpickled, (state,)

    def __call__(self, epoch: int, i: int) -> Episode:
        """Episode i, from 0, of an epoch."""
        rng = stream("episode", self.seed, epoch, i)
        query, class_id = self._query(rng, epoch, i)
        classes = ways(rng, self.candidates, class_id, self.way)
        return with_supports(rng, self.candidates, query, classes, self.shot, self.repeat)

    def at(self, position: int) -> tuple[int, int]:
        """(epoch, i) of the position-th episode of a run."""
        return divmod(position, len(self))

    def _query(self, rng: np.random.Generator, epoch: int, i: int) -> tuple[int, int]:
        if self.draw == "class":
            class_id = pick(rng, queried_classes(self.candidates))
            return int(pick(rng, self.candidates.queries[class_id])), class_id
        entry = self._order(epoch)[i]
        if self.draw == "class-line":
            row, class_id = self.candidates.query_pairs[entry].tolist()
            return row, class_id
        row = int(self.images[entry])
        return row, pick(rng, self.candidates.classes_of[row])

    def _order_of(self, epoch: int) -> Rows:
        return shuffled(stream("epoch", self.seed, epoch), len(self))


def _unpickled(state: Mapping[str, object]) -> TrainingEpisodes:
    episodes = TrainingEpisodes.__new__(TrainingEpisodes)
    vars(episodes).update(state)
    episodes._order = lru_cache(maxsize=2)(episodes._order_of)
    return episodes


def training_draw(protocol: Protocol, dataset: str) -> str:
    """The protocol's `training_draw`, but `class` for HSNet's lists on COCO, as in HSNet's code."""
    if protocol.training_list == "hsnet" and dataset == "coco-20i":
        return "class"
    return protocol.training_draw


# ---------------------------------------------------------------- shared with manifests


def queried_classes(candidates: Candidates) -> list[int]:
    """Ids of the classes that have a query, ascending."""
    return [c for c, rows in sorted(candidates.queries.items()) if len(rows)]


def ways(
    rng: np.random.Generator, candidates: Candidates, class_id: int, way: int
) -> tuple[int, ...]:
    """The query's class and way - 1 others, in random order."""
    if way == 1:
        return (class_id,)
    others = [c for c in queried_classes(candidates) if c != class_id]
    chosen = [others[i] for i in shuffled(rng, len(others))[: way - 1]]
    place = int(rng.random() * way)
    return (*chosen[:place], class_id, *chosen[place:])


def with_supports(
    rng: np.random.Generator,
    candidates: Candidates,
    query: int,
    classes: tuple[int, ...],
    shot: int,
    repeat: bool,
) -> Episode:
    """Draw supports for a query: never the query itself, distinct per way unless `repeat`."""
    supports = [
        row for c in classes for row in sample(rng, candidates.supports[c], shot, query, repeat)
    ]
    return Episode(query, tuple(supports), classes)


def check_ways(dataset: Dataset, candidates: Candidates, way: int, where: str) -> None:
    """Raises InputError if there are fewer classes than an episode needs, or none at all."""
    found = len(queried_classes(candidates))
    if found < max(way, 1):
        raise InputError(
            f"{dataset.info.name} {where}: way={way} needs {counted(way, 'class')} with enough "
            f"images; {found} have them. Lower way or shot, or build the data set from more images."
        )
