"""Expands an experiment: grid -> trials -> jobs, with the fewest trainings that give all trials.

Nothing here imports torch.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from fssplat.common.errors import InputError
from fssplat.experiment.card import MethodCard, find_card
from fssplat.experiment.protocols import Protocol, resolve_protocol
from fssplat.experiment.recipe import Cell, check_cell, method_of, options_of, training_of
from fssplat.experiment.schema import (
    DATASETS,
    FOLDS,
    BackboneSpec,
    DatasetSpec,
    ExperimentSpec,
    MethodEntry,
    digest,
)
from fssplat.experiment.trial import Job, Trial

WHOLE_NUMBERS = ("fold", "shot", "way", "seed")  # axes


def expand(experiment: ExperimentSpec, methods: Mapping[str, MethodCard]) -> list[Trial]:
    """Every trial of the grid, checked; equal ones are kept once.

    Raises InputError for an unknown name, a fold out of range, or a setting that a method lacks.
    """
    protocol = resolve_protocol(experiment.protocol, experiment.name)
    _check_rules(experiment, methods)
    for entry in experiment.grid.method:
        find_card(methods, entry.name, experiment.name)
    trials: dict[str, Trial] = {}
    for values in _kept_combinations(experiment):
        trial = _trial(experiment, values, methods, protocol)
        trials.setdefault(digest(trial, trial.evaluation, trial.training.checkpoint), trial)
    if not trials:
        raise InputError(f"{experiment.name}: exclude leaves no trial. Remove one of its entries.")
    _check_titles(trials.values(), experiment.name)
    return list(trials.values())


def jobs(trials: list[Trial], fingerprints: Mapping[str, str]) -> list[Job]:
    """Trials grouped by the training they share, in the order of their first trial."""
    groups: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        group = groups.setdefault(trial.training_key(fingerprints), {})
        group.setdefault(trial.trial_id(fingerprints), trial)
    return [
        Job(key=key, trials=tuple(group.values()), trial_ids=tuple(group))
        for key, group in groups.items()
    ]


def dataset_names(experiment: ExperimentSpec) -> tuple[str, ...]:
    """The data sets that are scored: `grid.dataset`, or else `dataset`; empty without both."""
    return experiment.grid.dataset or ((experiment.dataset,) if experiment.dataset else ())


def matches(values: Mapping[str, Any], rule: Mapping[str, Any], where: str) -> bool:
    """Whether a combination has every value that a rule names; a list means any of its values.

    Raises InputError if the rule names something that is not an axis.
    """
    entry: MethodEntry = values["method"]
    names = {**values, "method": entry.name, "variant": entry.variant}
    for axis, accepted in rule.items():
        if axis not in names:
            raise InputError(f"{where}: {axis} is not an axis. Known: {', '.join(names)}.")
        if names[axis] not in _as_list(accepted):
            return False
    return True


def _kept_combinations(experiment: ExperimentSpec) -> Iterator[dict[str, Any]]:
    """Each combination of the axes' values that `exclude` does not name, by axis."""
    grid, datasets = experiment.grid, dataset_names(experiment)
    if not datasets:
        raise InputError(f"{experiment.name}: no dataset. Set dataset, e.g. `dataset: synthetic`.")
    axes = {
        "dataset": datasets, "fold": grid.fold, "shot": grid.shot, "way": grid.way,
        "method": grid.method, "backbone": grid.backbone, "seed": grid.seed,
    }  # fmt: skip
    for combination in product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        if not any(matches(values, rule, experiment.name) for rule in experiment.exclude):
            yield values


def _trial(
    experiment: ExperimentSpec,
    values: Mapping[str, Any],
    methods: Mapping[str, MethodCard],
    protocol: Protocol,
) -> Trial:
    dataset = _dataset(experiment, values["dataset"])
    train_on = _dataset(experiment, experiment.train_on) if experiment.train_on else dataset
    _check_fold(experiment.name, dataset.name, values["fold"])
    cell = _cell(experiment, values, methods, train_on.name)
    options = options_of(cell)
    training = training_of(cell, experiment.training, protocol)
    check_cell(cell, protocol, options, training)
    return Trial(
        dataset=dataset,
        train_on=train_on,
        fold=values["fold"],
        shot=cell.shot,
        way=cell.way,
        method=method_of(cell, options),
        backbone=cell.backbone,
        training=training,
        protocol=protocol,
        evaluation=experiment.evaluation,
        method_version=cell.card.RESULT_VERSION,
        scoring_options=tuple(sorted(cell.card.SCORING_OPTIONS)),
    )


def _cell(
    experiment: ExperimentSpec,
    values: Mapping[str, Any],
    methods: Mapping[str, MethodCard],
    train_on: str,
) -> Cell:
    where, entry, backbone = experiment.name, values["method"], values["backbone"]
    overrides = [one for one in experiment.overrides if matches(values, one.where, where)]
    return Cell(
        entry=entry,
        card=find_card(methods, entry.name, where),
        backbone=experiment.backbones.get(backbone, BackboneSpec(name=backbone)),
        train_on=train_on,
        shot=values["shot"],
        way=values["way"],
        seed=values["seed"],
        overrides=tuple(overrides),
        label=f"{where}: {entry.name}",
    )


def _dataset(experiment: ExperimentSpec, name: str) -> DatasetSpec:
    if name not in DATASETS:
        raise InputError(
            f"{experiment.name}: dataset {name!r} is unknown. Known: {', '.join(DATASETS)}."
        )
    return experiment.datasets.get(name, DatasetSpec(name=name))


# ------------------------------------------------------------------ checks


def _check_rules(experiment: ExperimentSpec, methods: Mapping[str, MethodCard]) -> None:
    """Raises InputError for an `exclude` or an override that no cell could ever match."""
    rules = [("exclude", rule) for rule in experiment.exclude]
    rules += [("overrides.where", item.where) for item in experiment.overrides]
    for place, rule in rules:
        where = f"{experiment.name}: {place}"
        for axis, accepted in rule.items():
            for value in _as_list(accepted):
                if axis in WHOLE_NUMBERS and type(value) is not int:
                    raise InputError(f"{where}: {axis} {value!r} is not a whole number.")
                if axis == "dataset" and value not in DATASETS:
                    known = ", ".join(DATASETS)
                    raise InputError(f"{where}: data set {value!r} is unknown. Known: {known}.")
                if axis == "method" and ":" not in str(value):
                    find_card(methods, value, where)


def _check_fold(where: str, dataset: str, fold: int) -> None:
    if fold >= FOLDS[dataset]:
        raise InputError(
            f"{where}: grid.fold has {fold}; {dataset} has folds 0 to {FOLDS[dataset] - 1}."
        )


def _check_titles(trials: Iterable[Trial], where: str) -> None:
    """Raises InputError if two different trials would have one name in a table."""
    counts = Counter((trial.title, trial.training.seed) for trial in trials)
    (title, _), count = counts.most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{where}: {count} different trials are called {title}, and a table could not tell "
            "them apart. Give each entry of grid.method its own `variant`."
        )


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
