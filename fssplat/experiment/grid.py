"""YAML -> trials -> jobs: every cell of the table, and the fewest trainings that fill it.

Nothing here imports torch. What a method contributes (its options, its paper's schedule) comes in
as a `MethodCard`, which every class in `fssplat.methods.METHODS` satisfies.
"""
# ruff: noqa: N802 - a method card's properties are named like the class variables they stand for

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from fssplat.common.errors import InputError
from fssplat.experiment import protocols
from fssplat.experiment.schema import (
    DATASETS,
    FOLDS,
    BackboneSpec,
    DatasetSpec,
    EvaluationSpec,
    ExperimentSpec,
    MethodEntry,
    MethodSpec,
    Spec,
    TrainingSpec,
    digest,
    validate,
)

ENGINE_RESULT_VERSION = 1  # raised when the engine's numbers change


class MethodCard(Protocol):
    """What the grid must know of a method; satisfied by the method's class itself."""

    # Properties and plain methods, because that is how a class object satisfies a protocol.
    @property
    def Options(self) -> type[BaseModel]: ...

    @property
    def LOSS_WEIGHTS(self) -> Mapping[str, float]:
        """The paper's defaults, by loss name."""
        ...

    @property
    def MOMENTUM(self) -> Mapping[str, float]:
        """The paper's defaults, by term; `sgd` is the optimiser's."""
        ...

    @property
    def PRESETS(self) -> Mapping[str, Mapping[str, Any]]:
        """name -> {options, loss_weights, training, training_on: data set -> training, ...}"""
        ...

    @property
    def RESULT_VERSION(self) -> int:
        """Raised when the method's numbers change."""
        ...

    @property
    def TRAINED(self) -> bool:
        """False: nothing to learn (prior)."""
        ...

    @property
    def SHOTS_SHARE_TRAINING(self) -> bool:
        """A K-shot trial uses the 1-shot weights."""
        ...

    @property
    def SCORING_OPTIONS(self) -> frozenset[str]:
        """Switches that training never sees: trials that differ in them alone share weights."""
        ...

    @property
    def SHOT_FUSION(self) -> Literal["network", "vote", "mean-mask"]:
        """Where shots meet; a method that lets them vote trains on one support."""
        ...

    @property
    def LOSS_IGNORES_255(self) -> bool:
        """False: a pixel of 255 is background in the loss."""
        ...

    def recipe(self, dataset: str, backbone: str) -> Mapping[str, Any]:
        """TrainingSpec fields as the paper (or its code) trains on this data set."""
        ...

    def options_for(self, dataset: str) -> Mapping[str, Any]:
        """Switches that the paper sets otherwise on this data set."""
        ...

    def fewest_episodes(self, options: Any) -> int:
        """Episodes that a training pass needs at least."""
        ...

    def ways_of(self, options: Any) -> int | None:
        """Classes per episode that a network with these switches takes; None: any number."""
        ...


class Trial(Spec):
    """One cell of the result table, every setting resolved."""

    not_hashed = frozenset({"evaluation", "scoring_options"})
    dataset: DatasetSpec  # scored on
    train_on: DatasetSpec  # trained on; the same but for domain shift
    fold: int
    shot: int
    way: int = 1
    method: MethodSpec
    backbone: BackboneSpec
    training: TrainingSpec
    protocol: protocols.Protocol
    evaluation: EvaluationSpec
    method_version: int
    scoring_options: tuple[str, ...] = ()  # of the method: not part of what names the weights

    def training_key(self, fingerprints: Mapping[str, str]) -> str:
        """Names the weights: two trials with one key share one training.

        `fingerprints` give the content behind a name: of data sets, public lists, backbone weights
        and `training.checkpoint`. What has none counts by its name.
        """
        return digest(*self._weights(fingerprints, self.trained_method))

    @property
    def trained_method(self) -> MethodSpec:
        """The method without the options that training never sees, which then have defaults."""
        if not self.scoring_options:
            return self.method
        options = self.method.options.items()
        trained = {name: value for name, value in options if name not in self.scoring_options}
        return self.method.model_copy(update={"options": trained})

    def trial_id(self, fingerprints: Mapping[str, str]) -> str:
        """Names the result: whatever can change the number, and nothing else."""
        return digest(
            *self._weights(fingerprints, self.method),
            self.dataset,
            self.shot,
            self.way,
            self.protocol,
            self.evaluation,
            fingerprints.get(self.dataset.name, ""),
            fingerprints.get(self.protocol.lists_of(self.dataset.name), ""),
        )

    def _weights(self, fingerprints: Mapping[str, str], method: MethodSpec) -> tuple[Any, ...]:
        rules = self.protocol
        data_rules: list[Any] = [
            rules.training_list,
            rules.novel,
            rules.training_draw,
            rules.min_area,
        ]
        data_rules += [rules.min_area_query, rules.coco_folds, rules.selection]
        data_rules += [rules.supports_repeat]
        given, backbone = self.training.checkpoint, self.backbone
        data_rules += [fingerprints.get(given, given)] if given else []
        return (
            self.train_on,
            fingerprints.get(self.train_on.name, ""),
            fingerprints.get(rules.lists_of(self.train_on.name), ""),
            self.fold,
            method,
            backbone.name,
            fingerprints.get(backbone.source, backbone.weights),
            self.training,
            data_rules,
            self.way if self.way > 1 else 1,
            self.method_version,
            ENGINE_RESULT_VERSION,
        )

    @property
    def title(self) -> str:
        shots = f"{self.shot}-shot" if self.way == 1 else f"{self.way}-way {self.shot}-shot"
        where = f"{self.dataset.name} fold {self.fold}"
        return f"{where} {shots} {self.method.label} {self.backbone.name}"


class Job(Spec):
    """What is scheduled: one training and every trial scored from its weights."""

    key: str
    trials: tuple[Trial, ...]
    trial_ids: tuple[str, ...]

    @property
    def first(self) -> Trial:
        return self.trials[0]

    @property
    def trains(self) -> bool:
        """False for a training-free method, and for weights that exist already."""
        return self.first.training.steps != 0

    @property
    def title(self) -> str:
        shots = "+".join(dict.fromkeys(str(trial.shot) for trial in self.trials))
        one = self.first
        where = f"{one.train_on.name} fold {one.fold}"
        return f"{where} {shots}-shot {one.method.label} {one.backbone.name}"


def expand(experiment: ExperimentSpec, methods: Mapping[str, MethodCard]) -> list[Trial]:
    """Every cell of the grid, checked; equal cells are kept once.

    Raises InputError for an unknown name, a fold out of range, or a setting a method lacks.
    """
    where = experiment.name
    names = experiment.grid.dataset or ((experiment.dataset,) if experiment.dataset else ())
    if not names:
        raise InputError(f"{where}: no dataset. Set dataset, e.g. `dataset: synthetic`.")
    rules = protocols.resolve_protocol(experiment.protocol, where)
    _check_rules(experiment, methods)
    cells = list(_cells(experiment, names))
    cards = {entry.name: _card(methods, entry.name, where) for entry in experiment.grid.method}
    trials: dict[str, Trial] = {}
    for cell in cells:
        trial = _resolve(experiment, cell, cards[cell["method"].name], rules)
        trials.setdefault(digest(trial, trial.evaluation, trial.training.checkpoint), trial)
    if not trials:
        raise InputError(f"{where}: exclude leaves no trial. Remove one of its entries.")
    _check_rows(trials.values(), where)
    return list(trials.values())


def _check_rules(experiment: ExperimentSpec, methods: Mapping[str, MethodCard]) -> None:
    """InputError for an `exclude` or an override that no cell could ever match."""
    rules = [("exclude", rule) for rule in experiment.exclude]
    rules += [("overrides.where", item.where) for item in experiment.overrides]
    for place, rule in rules:
        where = f"{experiment.name}: {place}"
        for axis, wanted in rule.items():
            for value in wanted if isinstance(wanted, list | tuple) else [wanted]:
                if axis in ("fold", "shot", "way", "seed") and type(value) is not int:
                    raise InputError(f"{where}: {axis} {value!r} is not a whole number.")
                if axis == "dataset" and value not in DATASETS:
                    known = ", ".join(DATASETS)
                    raise InputError(f"{where}: data set {value!r} is unknown. Known: {known}.")
                if axis == "method" and ":" not in str(value):
                    _card(methods, value, where)


def _check_rows(trials: Iterable[Trial], where: str) -> None:
    """InputError where a table would show two different trials as one."""
    cells = Counter((trial.title, trial.training.seed) for trial in trials)
    (title, _), count = cells.most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{where}: {count} different trials are called {title}, and a table could not tell "
            "them apart. Give each entry of grid.method a `variant` of its own."
        )


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


def _cells(experiment: ExperimentSpec, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    grid = experiment.grid
    axes = {
        "dataset": names, "fold": grid.fold, "shot": grid.shot, "way": grid.way,
        "method": grid.method, "backbone": grid.backbone, "seed": grid.seed,
    }  # fmt: skip
    for values in product(*axes.values()):
        cell = dict(zip(axes, values, strict=True))
        if not any(matches(cell, rule, experiment.name) for rule in experiment.exclude):
            yield cell


def matches(cell: Mapping[str, Any], rule: Mapping[str, Any], where: str) -> bool:
    """Whether a cell has every value that a rule names; a list in the rule means any of them."""
    for axis, wanted in rule.items():
        if axis not in cell and axis != "variant":
            raise InputError(f"{where}: {axis} is not an axis. Known: {', '.join(cell)}, variant.")
        entry: MethodEntry = cell["method"]
        value = {"method": entry.name, "variant": entry.variant}.get(axis, cell.get(axis))
        if value not in (wanted if isinstance(wanted, list | tuple) else [wanted]):
            return False
    return True


def _card(methods: Mapping[str, MethodCard], name: str, where: str) -> MethodCard:
    if name not in methods:
        raise InputError(f"{where}: method {name!r} is unknown. Known: {', '.join(methods)}.")
    return methods[name]


def _resolve(
    experiment: ExperimentSpec, cell: dict[str, Any], card: MethodCard, rules: protocols.Protocol
) -> Trial:
    where, entry = experiment.name, cell["method"]
    dataset = _dataset(experiment, cell["dataset"])
    train_on = _dataset(experiment, experiment.train_on) if experiment.train_on else dataset
    if cell["fold"] >= FOLDS[dataset.name]:
        raise InputError(
            f"{where}: grid.fold has {cell['fold']}; {dataset.name} has folds "
            f"0 to {FOLDS[dataset.name] - 1}."
        )
    preset = _preset(card, entry, where)
    changes = [item for item in experiment.overrides if matches(cell, item.where, where)]
    of_data = card.options_for(train_on.name)
    options: dict[str, Any] = {**of_data, **preset.get("options", {}), **entry.options}
    for change in changes:
        options.update(change.options)
    recipe = merged(card.recipe(train_on.name, cell["backbone"]), preset.get("training", {}))
    recipe = merged(recipe, preset.get("training_on", {}).get(train_on.name, {}))
    layers = [experiment.training, *(change.training for change in changes), entry.training]
    backbone = experiment.backbones.get(cell["backbone"], BackboneSpec(name=cell["backbone"]))
    label = f"{where}: {entry.name}"
    training = _training(cell, backbone, card, rules, recipe, layers, label)
    settings = validate(card.Options, options, label, "options.")
    if rules.novel == "ignore" and not card.LOSS_IGNORES_255:
        raise InputError(
            f"{label}: protocol.novel: ignore would change nothing, since its loss counts ignored "
            "pixels as background. Set novel: exclude-image, or leave the method out."
        )
    training_spec = validate(TrainingSpec, training, label, "training.")
    _check_batch(training_spec, card.fewest_episodes(settings), label)
    if card.ways_of(settings) not in (None, cell["way"]):
        raise InputError(
            f"{label}: grid.way has {cell['way']} classes per episode; with these options the "
            f"method takes {card.ways_of(settings)}."
        )
    method = MethodSpec(
        name=entry.name,
        variant=entry.variant or entry.preset,
        options=settings.model_dump(mode="json"),
        loss_weights=_terms(card.LOSS_WEIGHTS, preset, entry, "loss_weights", label),
        momentum=_terms(card.MOMENTUM, preset, entry, "momentum", label),
    )
    return Trial(
        dataset=dataset,
        train_on=train_on,
        fold=cell["fold"],
        shot=cell["shot"],
        way=cell["way"],
        method=method,
        backbone=backbone,
        training=training_spec,
        protocol=rules,
        evaluation=experiment.evaluation,
        method_version=card.RESULT_VERSION,
        scoring_options=tuple(sorted(card.SCORING_OPTIONS)),
    )


def _check_batch(training: TrainingSpec, fewest: int, label: str) -> None:
    """InputError where a backward pass would get too few episodes."""
    for name, episodes in (("batch", training.batch), ("micro_batch", training.micro_batch)):
        if training.steps != 0 and episodes is not None and episodes < fewest:
            raise InputError(
                f"{label}: training.{name} is {episodes}; BatchNorm over single values needs "
                f"{fewest} episodes or more."
            )


def _training(
    cell: dict[str, Any],
    backbone: BackboneSpec,
    card: MethodCard,
    rules: protocols.Protocol,
    recipe: dict[str, Any],
    layers: list[dict[str, Any]],
    label: str,
) -> dict[str, Any]:
    """The paper's recipe with the experiment's changes on top, the trial's seed and its shot.

    Nothing is drawn where nothing is trained and weights are given: one seed stands for all.
    """
    votes = card.SHOT_FUSION == "vote"
    apart = {"apart": True, "reuse": False, "method": not card.SHOTS_SHARE_TRAINING}
    for layer in layers:
        if "seed" in layer:
            raise InputError(f"{label}: training.seed is the grid's. Set grid.seed, as in [0, 1].")
        if "shot" in layer and (votes or apart[rules.five_shot]):
            says = "it sees one support" if votes else "each grid.shot is trained apart"
            raise InputError(f"{label}: training.shot cannot be set, {says}. Leave it out.")
    if card.TRAINED:
        for layer in layers:
            recipe = merged(recipe, layer)
        if apart[rules.five_shot] and not votes:
            recipe["shot"] = cell["shot"]
    if recipe.get("checkpoint"):
        recipe = merged(recipe, {"steps": 0})
    drawn = card.TRAINED and not recipe.get("checkpoint")
    return {**recipe, "seed": cell["seed"] if drawn or backbone.weights == "random" else 0}


def _preset(card: MethodCard, entry: MethodEntry, where: str) -> Mapping[str, Any]:
    if not entry.preset:
        return {}
    if entry.preset not in card.PRESETS:
        known = ", ".join(card.PRESETS) or "none"
        raise InputError(f"{where}: {entry.name} has no preset {entry.preset!r}. Known: {known}.")
    return card.PRESETS[entry.preset]


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, nested mappings merged; steps and epochs replace each other."""
    result = dict(base)
    if "steps" in over or "epochs" in over:
        result.pop("steps", None)
        result.pop("epochs", None)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _dataset(experiment: ExperimentSpec, name: str) -> DatasetSpec:
    if name not in DATASETS:
        raise InputError(
            f"{experiment.name}: dataset {name!r} is unknown. Known: {', '.join(DATASETS)}."
        )
    return experiment.datasets.get(name, DatasetSpec(name=name))


def _terms(
    known: Mapping[str, float], preset: Mapping[str, Any], entry: MethodEntry, kind: str, label: str
) -> dict[str, float]:
    """The paper's weights with the experiment's on top; a term the method lacks is an error."""
    chosen = {**preset.get(kind, {}), **getattr(entry, kind)}
    for name in chosen:
        if name not in known:
            has = ", ".join(known) or "none"
            raise InputError(f"{label}: {kind}.{name} is not a term of the method. It has: {has}.")
    return {**known, **chosen}
