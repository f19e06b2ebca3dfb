"""Results in the order of tables: methods down, folds across, all numbers in percent (0 to 100).

There is one block per data set, shot and protocol: results of two protocols never share a column.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from fssplat.experiment.trial import Trial
from fssplat.results.records import Result
from fssplat.results.source_code import freshness

ANCHOR = "prior"  # the training-free method that others are compared with


@dataclass(frozen=True)
class Cell:
    """One finished trial."""

    trial_id: str
    trial: Trial
    result: Result

    def percent(self, name: str) -> float:
        return 100 * self.result.metrics.get(name, math.nan)


@dataclass(frozen=True)
class Row:
    """One method on one backbone: its finished trials, by fold and training seed."""

    method: str
    backbone: str
    cells: tuple[Cell, ...]
    unfinished: tuple[str, ...] = ()  # ids of its trials without a result

    @property
    def seeds(self) -> list[int]:
        """The training seeds with a result, ascending."""
        return sorted({cell.trial.training.seed for cell in self.cells})

    @property
    def label(self) -> str:
        """The method's label, marked if the source of some of the numbers has changed since."""
        stale = sum(freshness(cell.trial, cell.result) == "stale" for cell in self.cells)
        if not stale:
            return self.method
        count = "" if stale == len(self.cells) else f" {stale} of {len(self.cells)}"
        return f"{self.method} (stale{count})"

    def fold(self, fold: int, name: str = "miou") -> float | None:
        """Mean over the training seeds of one fold; returns None if none is finished."""
        values = [cell.percent(name) for cell in self.cells if cell.trial.fold == fold]
        return sum(values) / len(values) if values else None

    def mean(self, folds: Sequence[int], name: str = "miou") -> float | None:
        """Mean over all folds of the table; returns None if one of them has no number."""
        values = [self.fold(fold, name) for fold in folds]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    def spread(self, folds: Sequence[int]) -> float | None:
        """Standard deviation of the mean over folds; returns None if it is unknown.

        With several training seeds it is the one over them, else the one over episode seeds, which
        treats the folds' errors as independent.
        """
        if len(self.seeds) > 1:
            means = [self._of_seed(seed).mean(folds) for seed in self.seeds]
            known = [value for value in means if value is not None]
            return stdev(known) if len(known) > 1 else None
        deviations = [self.fold(fold, "miou_std") for fold in folds]
        several = any(len(cell.trial.protocol.episode_seeds) > 1 for cell in self.cells)
        if None in deviations or not several:
            return None
        return math.sqrt(sum((value or 0.0) ** 2 for value in deviations)) / len(folds)

    def _of_seed(self, seed: int) -> "Row":
        cells = tuple(cell for cell in self.cells if cell.trial.training.seed == seed)
        return Row(self.method, self.backbone, cells)


@dataclass(frozen=True)
class Block:
    """The rows of one table."""

    title: str
    folds: tuple[int, ...]
    rows: tuple[Row, ...]
    name: str = ""  # for files: letters, digits and hyphens


def blocks(trials: Mapping[str, Trial], results: Mapping[str, Result]) -> list[Block]:
    """The experiment's trials by table, in the order of its grid."""
    groups: dict[str, list[str]] = {}
    for trial_id, trial in trials.items():
        groups.setdefault(_title(trial), []).append(trial_id)
    found = []
    for title, ids in groups.items():
        rows: dict[tuple[str, str], list[str]] = {}
        for trial_id in ids:
            trial = trials[trial_id]
            rows.setdefault((trial.method.label, trial.backbone.name), []).append(trial_id)
        folds = tuple(sorted({trials[trial_id].fold for trial_id in ids}))
        ordered = tuple(_row(*names, of_row, trials, results) for names, of_row in rows.items())
        found.append(Block(title, folds, ordered, _name(trials[ids[0]])))
    return found


def _row(
    method: str,
    backbone: str,
    ids: Sequence[str],
    trials: Mapping[str, Trial],
    results: Mapping[str, Result],
) -> Row:
    cells = tuple(Cell(one, trials[one], results[one]) for one in ids if one in results)
    return Row(method, backbone, cells, tuple(one for one in ids if one not in results))


def _name(trial: Trial) -> str:
    data = dict.fromkeys([trial.train_on.name, trial.dataset.name])
    shots = ([f"{trial.way}-way"] if trial.way > 1 else []) + [f"{trial.shot}-shot"]
    return "-".join([*data, *shots, trial.protocol.hash])


def _title(trial: Trial) -> str:
    shots = f"{trial.shot}-shot" if trial.way == 1 else f"{trial.way}-way {trial.shot}-shot"
    data = trial.dataset.name
    if trial.train_on.name != data:
        data = f"{trial.train_on.name} -> {data}"
    rules = trial.protocol
    chosen = {"novel-best": ", weights chosen on the novel classes"}.get(rules.selection, "")
    return f"{data}, {shots}, mIoU under protocol {rules.name} ({rules.hash}){chosen}"
