"""Tables of the papers as their rows are printed: which figures are of one line, and ours for them.

A figure is a `PublishedRow` of the data file. A line of a table holds several: 1-shot and 5-shot,
mIoU and FB-IoU, parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fssplat.experiment.trial import Trial
from fssplat.report import published
from fssplat.report.blocks import Block, blocks
from fssplat.report.published import PublishedRow
from fssplat.results.records import Result

Values = list[float | None]  # the folds, then their mean; None if there is no number

PARAMETERS = {  # (paper, printed figure) -> our metric for what the paper counts
    ("MiningFSS", "params_M"): "test_parameters",
    ("JC2A", "params_M"): "total_parameters",
}
COUNTED_APART = {  # paper -> what its number of parameters counts and ours does not
    "JC2A": "The paper also counts the last stage of ResNet-50 (14.96 M), which JC2A does not use"
}


@dataclass(frozen=True)
class Line:
    """The figures of one line of a table: those of one method, variant and backbone."""

    paper: str
    table: str
    dataset: str
    backbone: str
    method: str
    variant: str
    rows: tuple[PublishedRow, ...] = ()

    @property
    def label(self) -> str:
        words = [self.method, self.variant]
        words += ["(doubtful)"] if any(row.doubtful for row in self.rows) else []
        words += ["(quoted)"] if all(row.quoted for row in self.rows) else []
        return " ".join(word for word in words if word)

    def figure(self, shot: int | None, metrics: Sequence[str]) -> PublishedRow | None:
        found = (row for row in self.rows if row.shot == shot and row.metric in metrics)
        return next(found, None)


def lines(rows: Sequence[PublishedRow]) -> list[Line]:
    """The lines of the tables that these rows are of, in the printed order."""
    found: dict[Line, list[PublishedRow]] = {}
    for row in rows:
        variant = f"{row.variant}, gain" if row.metric == "mIoU_gain" else row.variant
        line = Line(row.paper, row.table, row.dataset, row.backbone, row.method, variant)
        found.setdefault(line, []).append(row)
    return [replace(line, rows=tuple(of_line)) for line, of_line in found.items()]


@dataclass(frozen=True)
class Ours:
    """Our results for published rows."""

    trials: Mapping[str, Trial]
    results: Mapping[str, Result]
    ids: Mapping[str, Sequence[str]]  # name of a row that can be run -> its trials

    def values(self, row: PublishedRow) -> Values:
        """Ours for a row that can be run: of its number of shots if we have it, else of another."""
        own = {one: self.trials[one] for one in self.ids.get(row.name, ())}
        same = {one: trial for one, trial in own.items() if trial.shot == row.shot} or own
        found = blocks(same, self.results)
        return our_values(row, found[0])[0] if found else [None] * 5

    def parameters(self, line: Line, row: PublishedRow) -> float | None:
        """Ours for a printed number of parameters, in millions, from any finished trial of the
        line."""
        name = PARAMETERS[row.paper, row.metric]
        for one in (one for row in line.rows for one in self.ids.get(row.name, ())):
            value = self.results[one].metrics.get(name) if one in self.results else None
            if value is not None:
                return value / 1e6
        return None


def our_values(row: PublishedRow, block: Block) -> list[Values]:
    """For each row of our table: its folds, and their mean if none is missing.

    A gain is the difference of the last row and the first.
    """
    folds = folds_of(row)
    found = []
    for one in block.rows:
        values: Values = [one.fold(fold, published.metric(row, fold)) for fold in folds]
        mean = None if row.metric == "class_IoU" else one.mean(folds, published.metric(row))
        found.append([*values, mean])
    if row.metric != "mIoU_gain":
        return found
    return [[difference(new, old) for new, old in zip(found[-1], found[0], strict=True)]]


def folds_of(row: PublishedRow) -> tuple[int, ...]:
    """The folds of the row's data set."""
    return tuple(range(len(row.folds))) if row.dataset != "FSS-1000" else (0,)


def printed_values(row: PublishedRow) -> Values:
    return [*(row.folds[fold] for fold in folds_of(row)), row.mean]


def difference(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs
