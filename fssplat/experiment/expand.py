"""Expands an experiment: grid -> trials -> jobs, with the fewest trainings that give all trials.

Nothing here imports torch.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.similar import known
from fssplat.experiment.card import MethodCard, find_card
from fssplat.experiment.datasets import BUILT_IN, KnownDataset, known_dataset
from fssplat.experiment.protocols import Protocol, resolve_protocol
from fssplat.experiment.recipe import (
    SET,
    Cell,
    CellLayer,
    Sources,
    check_cell,
    method_of,
    options_of,
    training_of,
)
from fssplat.experiment.rules import (
    all_datasets,
    as_list,
    check_values,
    dataset_names,
    kept_combinations,
    matches,
)
from fssplat.experiment.schema import (
    BackboneSpec,
    CombinedExperiment,
    DatasetSpec,
    ExperimentSpec,
    MethodChanges,
    Override,
    digest,
)
from fssplat.experiment.trial import Job, Trial

AXES = ("fold", "shot", "way", "method", "backbone", "seed")  # that a grid cannot lack


@dataclass(frozen=True)
class ResolvedTrial:
    """A trial, and where the values of its method's options, terms and training come from."""

    trial: Trial
    sources: Sources  # such as training.steps -> overrides[2]; a default is not in it


def expand(experiment: ExperimentSpec, methods: Mapping[str, MethodCard]) -> list[Trial]:
    """Every trial of the grid, checked; equal ones are kept once.

    Raises InputError for an unknown name, a fold out of range, or a setting that a method lacks.
    """
    return [one.trial for one in resolve(experiment, methods)]


def resolve(experiment: ExperimentSpec, methods: Mapping[str, MethodCard]) -> list[ResolvedTrial]:
    """The trials of `expand` with the sources of their settings. Raises InputError."""
    if isinstance(experiment, CombinedExperiment):
        parts = [one for part in experiment.parts for one in resolve(part, methods)]
        return list(_each_once(parts).values())
    protocol = resolve_protocol(experiment.protocol, experiment.name)
    if not dataset_names(experiment):
        raise InputError(f"{experiment.name}: no dataset. Set dataset, e.g. `dataset: synthetic`.")
    for axis in AXES:
        if not getattr(experiment.grid, axis):
            raise InputError(f"{experiment.name}: grid.{axis} is an empty list. Name a value.")
    protocol.check_names(all_datasets(experiment), experiment.name)
    _check_declared(experiment)
    _check_rules(experiment, methods)
    for entry in experiment.grid.method:
        find_card(methods, entry.name, experiment.name)
    _check_training_is_used(experiment, methods)
    cells = kept_combinations(experiment)
    found = _each_once(_resolved(experiment, values, methods, protocol) for values in cells)
    if not found:
        raise InputError(f"{experiment.name}: exclude leaves no trial. Remove one of its entries.")
    _check_titles([one.trial for one in found.values()], experiment.name)
    return list(found.values())


def _each_once(trials: Iterable[ResolvedTrial]) -> dict[str, ResolvedTrial]:
    """Trials without the equal ones after the first, by a digest."""
    found: dict[str, ResolvedTrial] = {}
    for one in trials:
        trial = one.trial
        found.setdefault(digest(trial, trial.evaluation, trial.training.checkpoint), one)
    return found


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


def _resolved(
    experiment: ExperimentSpec,
    values: Mapping[str, Any],
    methods: Mapping[str, MethodCard],
    protocol: Protocol,
) -> ResolvedTrial:
    dataset = _dataset(experiment, values["dataset"])
    train_on = _dataset(experiment, experiment.train_on) if experiment.train_on else dataset
    _check_fold(experiment, dataset, values["fold"])
    cell = _cell(experiment, values, methods, train_on)
    options, option_sources = options_of(cell)
    training, training_sources = training_of(cell, experiment.training, protocol)
    check_cell(cell, protocol, options, training)
    method, sources = method_of(cell, options)
    sources |= {f"options.{name}": source for name, source in option_sources.items()}
    sources |= {f"training.{name}": source for name, source in training_sources.items()}
    trial = Trial(
        dataset=dataset,
        train_on=train_on,
        fold=values["fold"],
        shot=cell.shot,
        way=cell.way,
        method=method,
        backbone=cell.backbone,
        training=training,
        protocol=protocol,
        evaluation=experiment.evaluation,
        method_version=cell.card.RESULT_VERSION,
        scoring_options=tuple(sorted(cell.card.SCORING_OPTIONS)),
    )
    return ResolvedTrial(trial, sources)


def _cell(
    experiment: ExperimentSpec,
    values: Mapping[str, Any],
    methods: Mapping[str, MethodCard],
    train_on: DatasetSpec,
) -> Cell:
    where, entry, backbone = experiment.name, values["method"], values["backbone"]

    def matching(overrides: Iterable[Override]) -> tuple[tuple[int, Override], ...]:
        pairs = enumerate(overrides)
        return tuple((place, one) for place, one in pairs if matches(values, one.where, where))

    layers = (
        CellLayer(
            layer.source,
            layer.training,
            matching(layer.overrides),
            layer.methods.get(values["place"], MethodChanges()),
        )
        for layer in experiment.layers
    )
    return Cell(
        entry=entry,
        place=values["place"],
        card=find_card(methods, entry.name, where),
        backbone=experiment.backbones.get(backbone, BackboneSpec(name=backbone)),
        train_on=train_on.name,
        recipe_of=_facts(experiment, train_on).recipe or train_on.name,
        shot=values["shot"],
        way=values["way"],
        seed=values["seed"],
        overrides=matching(experiment.overrides),
        layers=tuple(layers),
        label=f"{where}: {entry.name}",
    )


def _dataset(experiment: ExperimentSpec, name: str) -> DatasetSpec:
    spec = experiment.datasets.get(name, DatasetSpec(name=name))
    _facts(experiment, spec)
    return spec


def _facts(experiment: ExperimentSpec, spec: DatasetSpec) -> KnownDataset:
    """What is known of a data set. Raises InputError if it is unknown or not built."""
    return known_dataset(spec.name, spec.root, experiment.name, experiment.datasets)


# ------------------------------------------------------------------ checks


def _check_rules(experiment: ExperimentSpec, methods: Mapping[str, MethodCard]) -> None:
    """Raises InputError for an `exclude` or an override that no cell could ever match."""
    rules = [("exclude", rule) for rule in experiment.exclude]
    layers = (one for layer in experiment.layers for one in layer.overrides)
    rules += [("overrides.where", item.where) for item in (*experiment.overrides, *layers)]
    check_values(rules, experiment.name, all_datasets(experiment))
    for place, rule in rules:
        for value in as_list(rule.get("method", [])):
            if ":" not in str(value):
                find_card(methods, str(value), f"{experiment.name}: {place}")


def _check_training_is_used(experiment: ExperimentSpec, methods: Mapping[str, MethodCard]) -> None:
    """Raises InputError if --set changes `training` and no method of the grid is trained."""
    names = [entry.name for entry in experiment.grid.method]
    given = any(layer.source == SET and layer.training for layer in experiment.layers)
    if given and not any(methods[name].TRAINED for name in names):
        raise InputError(
            f"{experiment.name}: --set training.* changes nothing, because no method of the grid "
            f"is trained ({', '.join(dict.fromkeys(names))}). Leave it out."
        )


def _check_fold(experiment: ExperimentSpec, dataset: DatasetSpec, fold: int) -> None:
    folds = _facts(experiment, dataset).folds
    if fold >= folds:
        raise InputError(
            f"{experiment.name}: grid.fold has {fold}; {dataset.name} has folds 0 to {folds - 1}."
        )


def _check_declared(experiment: ExperimentSpec) -> None:
    """Raises InputError if `datasets` has one of your own that nothing uses: a typing error."""
    used = {*dataset_names(experiment), experiment.train_on}
    for name in experiment.datasets:
        if name not in used and name not in BUILT_IN:
            raise InputError(
                f"{experiment.name}: datasets.{name} is not used by dataset, grid.dataset or "
                f"train_on. {known(name, [*BUILT_IN, *filter(None, used)])}"
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
