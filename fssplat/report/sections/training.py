"""How the trainings went: losses, scores by which weights were selected, resumes, divergences."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fssplat.report.document.content import (
    Figure,
    Heading,
    Line,
    Part,
    Points,
    Section,
    Table,
    Text,
    Value,
    text_headings,
)
from fssplat.report.evidence.gather import Evidence
from fssplat.report.evidence.trainings import Training, jobs_of, read_training
from fssplat.report.figures.curves import Curve, Panel, training_curves
from fssplat.report.statistics.thinned import Series, over_seeds, thinned

MOST_LISTED = 20  # resumes and divergences that are listed
SELECTED_ON = {
    "base-val": "base classes in images that the training does not see",
    "novel-best": "the novel classes, which the results are about",
}

Row = tuple[str, str]  # method, backbone


@dataclass(frozen=True)
class Group:
    """Trainings on one data set, with one number of shots and one way to select weights."""

    name: str  # for files
    title: str
    rows: Mapping[Row, Mapping[int, Sequence[Training]]]  # by fold, the training seeds


def training(evidence: Evidence) -> Section | None:
    """Curves and a table per group; None if nothing was trained."""
    known = {job: read_training(evidence, job, ids) for job, ids in jobs_of(evidence).items()}
    if not known:
        return None
    parts: list[Part] = []
    for group in groups(evidence, {job: one for job, one in known.items() if one is not None}):
        parts += [loss_figure(group), *score_figures(group), training_table(group)]
        parts += events(group)
    lacking = sum(one is None for one in known.values())
    if lacking:
        parts.append(
            Text(
                f"The store has no losses of {lacking} of {len(known)} trainings: they run now, "
                "started from given weights, or their files were deleted or are damaged."
            )
        )
    return Section("training", "Training", tuple(parts))


def groups(evidence: Evidence, known: Mapping[str, Training]) -> list[Group]:
    """The trainings under the names of the tables' rows, each once."""
    by_trial = {trial_id: one for one in known.values() for trial_id in one.trials}
    found: dict[tuple[str, int, str], dict[Row, dict[int, list[Training]]]] = {}
    for row, trial_id in _rows(evidence):
        one = by_trial.get(trial_id)
        if one is not None:
            rules = one.trial.training, one.trial.protocol
            key = one.trial.train_on.name, rules[0].shot, rules[1].selection
            folds = found.setdefault(key, {}).setdefault(row, {})
            seeds = folds.setdefault(one.trial.fold, [])
            if all(one is not other for other in seeds):
                seeds.append(one)
    return [_group(*key, rows) for key, rows in found.items()]


def _rows(evidence: Evidence) -> Iterator[tuple[Row, str]]:
    for block in evidence.blocks:
        for row in block.rows:
            for trial_id in (*(cell.trial_id for cell in row.cells), *row.unfinished):
                yield (row.method, row.backbone), trial_id


def _group(
    data: str, shot: int, selection: str, rows: Mapping[Row, Mapping[int, Sequence[Training]]]
) -> Group:
    chosen = f", weights selected by {selection}" if selection in SELECTED_ON else ""
    suffix = f"-{selection}" if selection in SELECTED_ON else ""
    title = f"{data}, trained with {shot} shot{'s' if shot > 1 else ''}{chosen}"
    return Group(f"{data}-{shot}-shot{suffix}", title, rows)


def loss_figure(group: Group) -> Figure:
    """The total loss over the steps, averaged within parts of the training."""
    caption = (
        f"{group.title}: loss as minimised, mean over short parts of the training. A line is the "
        "mean over the training seeds of a fold, its shade covers all of them. Losses of two "
        "methods cannot be compared."
    )
    return _figure(f"losses-{group.name}", caption, group, _losses, "loss", 1)


def score_figures(group: Group) -> list[Figure]:
    """The scores of the weights during the trainings, if they were recorded."""
    if not any(one.record.scores for one in _trainings(group)):
        return []
    selection = next(iter(_trainings(group))).trial.protocol.selection
    caption = (
        f"{group.title}: mIoU in per cent on {SELECTED_ON.get(selection, 'other images')}, by "
        "which the weights of each training were selected."
    )
    return [_figure(f"scores-{group.name}", caption, group, _scores, "mIoU, %", 100)]


def _losses(seeds: Sequence[Training]) -> list[Series]:
    last = max(int(one.steps[-1]) for one in seeds)
    return [thinned(one.steps, one.losses, last) for one in seeds]


def _scores(seeds: Sequence[Training]) -> list[Series]:
    return [dict(sorted(one.record.scores.items())) for one in seeds if one.record.scores]


def _figure(
    name: str,
    caption: str,
    group: Group,
    series: Callable[[Sequence[Training]], list[Series]],
    axis: str,
    unit: float,
) -> Figure:
    """A panel per row, a line per fold; its numbers as a table."""
    panels, lines = [], []
    for row, folds in group.rows.items():
        curves = []
        for fold, seeds in sorted(folds.items()):
            points = over_seeds(series(seeds))
            if not points:
                continue
            ids = tuple(trial_id for one in seeds for trial_id in one.trials)
            numbers = [tuple(unit * number for number in one.numbers) for one in points]
            steps = [one.step for one in points]
            mean, low, high = (list(column) for column in zip(*numbers, strict=True))
            resumed = [step for one in seeds for step in one.record.resumed]
            diverged = [one.diverged for one in seeds if one.diverged]
            curves.append(Curve(f"fold-{fold}", steps, mean, low, high, resumed, diverged))
            for point, values in zip(points, numbers, strict=True):
                counts = Value(point.step, 0), Value(point.seeds, 0)
                found = (Value(value, 4, trials=ids) for value in values)
                lines.append(Line((*row, str(fold), *counts, *found)))
        if curves:
            panels.append(Panel(_label(row, group), curves))
    headings = (
        *text_headings("method", "backbone"),
        *map(Heading, ("fold", "step", "training seeds", "mean", "lowest", "highest")),
    )
    data = Table(name, caption, headings, tuple(lines))
    return Figure(name, caption, lambda: training_curves(panels, axis), data)


def training_table(group: Group) -> Table:
    """One line per row and fold."""
    lines = []
    scored = any(one.record.scores for one in _trainings(group))
    for row, folds in group.rows.items():
        for fold, seeds in sorted(folds.items()):
            ids = tuple(trial_id for one in seeds for trial_id in one.trials)
            losses = [float(np.mean(one.losses[-max(1, len(one.losses) // 20) :])) for one in seeds]
            spread = float(np.std(losses, ddof=1)) if len(losses) > 1 else None
            numbers = [
                Value(len(seeds), 0, trials=ids),
                Value(max(int(one.steps[-1]) for one in seeds), 0, trials=ids),
                Value(float(np.mean(losses)), 3, spread=spread, trials=ids),
            ]
            if scored:
                best = [max(one.record.scores.values()) for one in seeds if one.record.scores]
                numbers.append(Value(100 * float(np.mean(best)) if best else None, trials=ids))
            numbers.append(Value(sum(len(one.record.resumed) for one in seeds), 0, trials=ids))
            numbers.append(Value(sum(one.diverged > 0 for one in seeds), 0, trials=ids))
            lines.append(Line((*row, str(fold), *numbers)))
    names = ["fold", "training seeds", "steps", "last loss", *(["best mIoU"] if scored else []),
             "resumed", "diverged"]  # fmt: skip
    return Table(
        name=f"trainings-{group.name}",
        caption=f"{group.title}: the trainings. The last loss is the mean of the last 5 % of the "
        "steps, ± its standard deviation over training seeds.",
        headings=(*text_headings("method", "backbone"), *map(Heading, names)),
        lines=tuple(lines),
    )


def events(group: Group) -> list[Points]:
    """Where trainings were resumed or diverged; a long list is cut, with the number of others."""
    found = []
    for row, folds in group.rows.items():
        for one in (one for _, seeds in sorted(folds.items()) for one in seeds):
            where = f"{_label(row, group)}, fold {one.trial.fold}, seed {one.trial.training.seed}"
            found += [f"{where}: resumed after step {step}." for step in one.record.resumed]
            if one.diverged:
                found.append(f"{where}: diverged at step {one.diverged}.")
    if len(found) > MOST_LISTED:
        rest = len(found) - MOST_LISTED
        found = [*found[:MOST_LISTED], f"And {rest} more; the table counts all."]
    return [Points(tuple(found), "Resumed or diverged")] if found else []


def _trainings(group: Group) -> Iterator[Training]:
    for folds in group.rows.values():
        for seeds in folds.values():
            yield from seeds


def _label(row: Row, group: Group) -> str:
    several = len({backbone for _, backbone in group.rows}) > 1
    return ", ".join(row) if several else row[0]
