"""The table at the end of a launch: methods down, folds across, and what must be said about it.

One table per data set, shot and protocol, since numbers under two protocols never share a column.
All figures are in points (0 to 100).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fssplat.grid import Trial
from fssplat.orchestration.store import Result, Store, TrialStatus
from fssplat.report.statistics import Interval, paired_interval, read_episodes
from fssplat.spec import digest

ANCHOR = "prior"  # the training-free method that others are held against
NOVEL_CLASSES = {"pascal-5i": 5, "coco-20i": 20, "fss-1000": 240, "synthetic": 5}  # per fold


@dataclass(frozen=True)
class Cell:
    """One finished trial."""

    trial_id: str
    trial: Trial
    result: Result

    def points(self, name: str) -> float:
        return 100 * self.result.metrics.get(name, math.nan)


@dataclass(frozen=True)
class Row:
    """One method on one backbone: its finished trials, by fold and training seed."""

    method: str
    backbone: str
    cells: tuple[Cell, ...]

    def fold(self, fold: int, name: str = "miou") -> float | None:
        """Mean over the training seeds of one fold; None where nothing is finished."""
        values = [cell.points(name) for cell in self.cells if cell.trial.fold == fold]
        return sum(values) / len(values) if values else None

    def mean(self, folds: Sequence[int], name: str = "miou") -> float | None:
        """Mean over all folds of the table; None until each of them has a number."""
        values = [self.fold(fold, name) for fold in folds]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    def spread(self, folds: Sequence[int]) -> float | None:
        """Standard deviation of the mean over folds: over training seeds where there are several,
        else over episode seeds, with the folds' errors taken as independent."""
        seeds = sorted({cell.trial.training.seed for cell in self.cells})
        if len(seeds) > 1:
            means = [self._of_seed(seed).mean(folds) for seed in seeds]
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
    """The rows that may stand under one heading."""

    title: str
    folds: tuple[int, ...]
    rows: tuple[Row, ...]


def blocks(trials: Mapping[str, Trial], results: Mapping[str, Result]) -> list[Block]:
    """The experiment's trials as tables, in the order of its grid."""
    groups: dict[str, list[str]] = {}
    for trial_id, trial in trials.items():
        groups.setdefault(_title(trial), []).append(trial_id)
    found = []
    for title, ids in groups.items():
        rows: dict[tuple[str, str], list[Cell]] = {}
        for trial_id in ids:
            trial = trials[trial_id]
            cells = rows.setdefault((trial.method.label, trial.backbone.name), [])
            if trial_id in results:
                cells.append(Cell(trial_id, trial, results[trial_id]))
        folds = tuple(sorted({trials[trial_id].fold for trial_id in ids}))
        ordered = tuple(Row(method, backbone, tuple(c)) for (method, backbone), c in rows.items())
        found.append(Block(title, folds, ordered))
    return found


def table(
    trials: Mapping[str, Trial], states: Mapping[str, TrialStatus], store: Store
) -> RenderableType:
    """Everything a launch has found so far, and what is missing and why."""
    results = store.results(i for i in trials if states[i].state == "finished")
    parts: list[RenderableType] = []
    for block in blocks(trials, results):
        parts += [_drawn(block, _intervals(block, store)), Text("")]
    parts += [Text(line) for line in remarks(trials, states, results)]
    return Group(*parts)


def remarks(
    trials: Mapping[str, Trial],
    states: Mapping[str, TrialStatus],
    results: Mapping[str, Result],
) -> list[str]:
    """Classes left out, trials skipped, and whatever failed, each once with its reason."""
    lines: list[str] = []
    for trial_id, result in results.items():
        trial = trials[trial_id]
        lines += [f"{_place(trial)}: {note}." for note in result.notes]
    for trial_id, trial in trials.items():
        status = states[trial_id]
        if status.state == "skipped":
            lines.append(f"{_place(trial)}: skipped, {status.reason}.")
        elif status.state in ("failed", "diverged"):
            lines.append(f"{trial.title}: {status.state}, {status.reason}")
    waiting = sum(status.state in ("pending", "running") for status in states.values())
    if waiting:
        lines.append(f"{waiting} of {len(states)} trials have no result yet.")
    return list(dict.fromkeys(lines))


def _drawn(block: Block, intervals: Mapping[tuple[str, str], Interval]) -> Table:
    drawn = Table(title=block.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("method", no_wrap=True)
    drawn.add_column("backbone", no_wrap=True)
    spreads = [row.spread(block.folds) for row in block.rows]
    for heading in (*(f"fold-{fold}" for fold in block.folds), "mean"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    if any(spread is not None for spread in spreads):
        drawn.add_column("± std", justify="right", no_wrap=True)
    drawn.add_column("FB-IoU", justify="right", no_wrap=True)
    if intervals:
        drawn.add_column(f"vs {ANCHOR}, 95 %", justify="right", no_wrap=True)
    for row, spread in zip(block.rows, spreads, strict=True):
        cells = [_shown(row.fold(fold)) for fold in block.folds]
        cells.append(_shown(row.mean(block.folds)))
        if any(item is not None for item in spreads):
            cells.append(_shown(spread))
        cells.append(_shown(row.mean(block.folds, "fb_iou")))
        if intervals:
            cells.append(_interval(intervals.get((row.method, row.backbone))))
        drawn.add_row(row.method, row.backbone, *cells)
    return drawn


def _intervals(block: Block, store: Store) -> dict[tuple[str, str], Interval]:
    """Each method against the anchor of its backbone, where both have all folds."""
    anchors = {row.backbone: row for row in block.rows if row.method == ANCHOR}
    found = {}
    for row in block.rows:
        anchor = anchors.get(row.backbone)
        if row.method == ANCHOR or anchor is None:
            continue
        pairs = list(_pairs(row, anchor))
        if pairs and len({ours.trial.fold for ours, _ in pairs}) == len(block.folds):
            interval = compared(pairs, store)
            if interval is not None:
                found[row.method, row.backbone] = interval
    return found


def _pairs(row: Row, anchor: Row) -> Iterable[tuple[Cell, Cell]]:
    """Cells of the same fold; an anchor that learns nothing stands for all training seeds."""
    for ours in row.cells:
        same = [cell for cell in anchor.cells if cell.trial.fold == ours.trial.fold]
        seed = ours.trial.training.seed
        exact = [cell for cell in same if cell.trial.training.seed == seed]
        if exact or same:
            yield ours, (exact or same)[0]


def compared(pairs: Sequence[tuple[Cell, Cell]], store: Store) -> Interval | None:
    """The paired interval of these cells, computed once and then kept in the store."""
    name = f"comparisons/{digest([(a.trial_id, b.trial_id) for a, b in pairs])}.json"
    kept = store.files.read(name)
    if kept is not None:
        values = json.loads(kept)
        return Interval(**values) if values else None
    first = pairs[0][0].trial
    score = str(first.protocol.score[0])
    paths = [f"{cell.trial_id}/episodes.parquet" for pair in pairs for cell in pair]
    files = store.files.read_many(paths)
    if len(files) < len(set(paths)):
        return None
    sides = [
        [read_episodes(files[f"{pair[side].trial_id}/episodes.parquet"], score) for pair in pairs]
        for side in (0, 1)
    ]
    interval = paired_interval(
        sides[0], sides[1], first.protocol.absent_class, NOVEL_CLASSES[first.dataset.name]
    )
    store.files.write(name, json.dumps(vars(interval) if interval else None).encode())
    return interval


def _title(trial: Trial) -> str:
    shots = f"{trial.shot}-shot" if trial.way == 1 else f"{trial.way}-way {trial.shot}-shot"
    data = trial.dataset.name
    if trial.train_on.name != data:
        data = f"{trial.train_on.name} -> {data}"
    rules = trial.protocol
    chosen = {"novel-best": ", weights chosen on the novel classes"}.get(rules.selection, "")
    return f"{data}, {shots}, mIoU under protocol {rules.name} ({rules.hash}){chosen}"


def _place(trial: Trial) -> str:
    return f"{trial.dataset.name} fold {trial.fold} {trial.shot}-shot"


def _shown(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.difference:+.1f} [{low:+.1f}, {high:+.1f}]"
