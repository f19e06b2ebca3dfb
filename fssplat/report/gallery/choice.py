"""Which episodes a gallery shows: those that tell most about the difference of two rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fssplat.report.blocks import Block, Cell, Row
from fssplat.report.evidence.counts import Counts
from fssplat.report.evidence.gather import Evidence

Reason = Literal["largest gain", "largest loss", "median", "worst"]
REASONS: tuple[Reason, ...] = ("largest gain", "largest loss", "median", "worst")


@dataclass(frozen=True)
class EpisodePlace:
    """One way of an episode, as the trials of two methods have it."""

    first: str  # id of the trial whose gain is shown
    second: str  # id of the trial that it is compared with
    fold: int
    index: int  # row in the counts of both
    query: str  # key of the query image
    first_iou: float  # 0 to 1
    second_iou: float

    @property
    def difference(self) -> float:
        return self.first_iou - self.second_iou


def places(block: Block, first: Row, second: Row, evidence: Evidence) -> list[EpisodePlace]:
    """All episodes that both rows have scored: of each fold, with the first common seed."""
    found = []
    for fold in block.folds:
        pair = _common_trials(first, second, fold)
        if pair is None:
            continue
        counts = [evidence.counts(cell.trial_id) for cell in pair]
        if any(one is None for one in counts):
            continue
        one, other = counts
        assert one is not None
        assert other is not None
        if one.episodes != other.episodes:
            continue
        ids = tuple(cell.trial_id for cell in pair)
        found += list(_of_fold(ids, fold, one, other))
    return found


def _of_fold(ids: Sequence[str], fold: int, one: Counts, other: Counts) -> Iterator[EpisodePlace]:
    ious = zip(one.iou.tolist(), other.iou.tolist(), strict=True)
    for index, (mine, its) in enumerate(ious):
        yield EpisodePlace(ids[0], ids[1], fold, index, str(one.query[index]), mine, its)


def _common_trials(first: Row, second: Row, fold: int) -> tuple[Cell, Cell] | None:
    """The finished trials of a fold with the lowest training seed that both rows have, or with
    the lowest seed of each."""
    mine, its = ([c for c in row.cells if c.trial.fold == fold] for row in (first, second))
    if not mine or not its:
        return None
    return min(((a, b) for a in mine for b in its), key=_same_seed_first)


def _same_seed_first(pair: tuple[Cell, Cell]) -> tuple[bool, int, int]:
    one, other = (cell.trial.training.seed for cell in pair)
    return one != other, one, other


def chosen(known: Sequence[EpisodePlace], count: int) -> list[tuple[Reason, EpisodePlace]]:
    """At most `count` episodes, in equal parts: gains, losses, the median, the lowest IoUs.

    An episode is shown once; a query image too, as long as there are others. A gain is above 0 and
    a loss below 0, so there may be fewer.
    """
    parts = [count // len(REASONS) + (n < count % len(REASONS)) for n in range(len(REASONS))]
    by_difference = sorted(range(len(known)), key=lambda i: (known[i].difference, i))
    middle = len(known) // 2
    near = sorted(range(len(known)), key=lambda n: (abs(n - middle), n))
    ordered = {
        "largest gain": by_difference[::-1],
        "largest loss": by_difference,
        "median": [by_difference[n] for n in near],
        "worst": sorted(
            range(len(known)), key=lambda i: (known[i].first_iou + known[i].second_iou, i)
        ),
    }
    used: set[int] = set()
    queries: set[str] = set()
    result: list[tuple[Reason, EpisodePlace]] = []
    for reason, part in zip(REASONS, parts, strict=True):
        for again in (False, True):  # queries that are shown already come last
            for i in ordered[reason]:
                enough = sum(known_reason == reason for known_reason, _ in result) >= part
                if enough or i in used or not _fits(known[i], reason):
                    continue
                if again or known[i].query not in queries:
                    used.add(i)
                    queries.add(known[i].query)
                    result.append((reason, known[i]))
    return result


def _fits(place: EpisodePlace, reason: Reason) -> bool:
    if reason == "largest gain":
        return place.difference > 0
    if reason == "largest loss":
        return place.difference < 0
    return not np.isnan(place.difference)
