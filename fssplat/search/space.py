"""What is searched: the `search:` section of an experiment file, checked before anything starts.

    search:
      space:
        loss_weights: {auxiliary: {log: [0.01, 10]}}      # any setting of the method, by its name
        momentum: {sgd: {uniform: [0.5, 0.99]}}
        training: {lr: {log: [1e-4, 1e-1]}}
        options: {clusters: {integer: [2, 10]}, mine: {choice: [true, false]}}

A point is a mapping from such names, dotted, to values. Imports neither Ray nor Optuna.
"""

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from fssplat.common.errors import InputError
from fssplat.experiment.grid import MethodCard, Trial, expand, merged
from fssplat.experiment.schema import (
    ExperimentSpec,
    Spec,
    TrainingSpec,
    load_experiment,
    settings,
    validate,
)

Point = dict[str, Any]  # dotted name -> value
KINDS = ("uniform", "log", "integer", "choice")
SECTIONS = ("loss_weights", "momentum", "training", "options")
NOT_SEARCHED = {  # names in `training` that say how much or which run it is, not how well it goes
    "steps": "every point trains equally long",
    "epochs": "every point trains equally long",
    "micro_batch": "it is how a batch fits into memory",
    "seed": "list seeds in grid.seed; a point is scored by their mean",
    "shot": "list it in grid.shot",
}


class Parameter(Spec):
    """One dimension: exactly one of the four kinds, and when it counts at all."""

    uniform: tuple[float, float] | None = None  # low and high, both included
    log: tuple[float, float] | None = None  # the same, uniform in the logarithm
    integer: tuple[int, int] | None = None  # low and high, both included
    choice: tuple[Any, ...] | None = None  # one of these values
    when: dict[str, Any] = Field(
        default_factory=dict
    )  # name of a choice -> its values for which this dimension is used

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        return self

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lowest and highest value; None for a choice."""
        return self.uniform or self.log or self.integer

    def ends(self) -> tuple[Any, ...]:
        """The values that show whether the method takes all of them."""
        return self.choice if self.choice is not None else self.bounds or ()

    def holds(self, value: Any) -> bool:
        """Whether the dimension contains a value."""
        if self.choice is not None:
            return label(value) in [label(one) for one in self.choice]
        low, high = self.bounds or (math.inf, -math.inf)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and low <= value <= high

    def wanted(self, name: str) -> list[Any]:
        """The values of the choice `name` under which this dimension counts."""
        values = self.when[name]
        return list(values) if isinstance(values, list | tuple) else [values]


class WarmStart(Spec):
    """Points of another study that are tried first, after the paper's own."""

    study: str  # name of the other study
    storage: str = ""  # its database; empty: that of this study
    best: PositiveInt = 5  # how many points


class SearchSpec(Spec):
    """The `search:` section but for the space."""

    space: dict[str, Any]  # section -> name -> dimension
    selection: Literal["base-val", "novel-best"] = "base-val"  # which classes points are scored by
    episodes: PositiveInt = 200  # per fold and milestone
    sampler: Literal["tpe", "cmaes", "random", "nsga2"] = "tpe"  # nsga2: mIoU and episodes/s
    startup: PositiveInt = 10  # random points before TPE draws its own
    population: PositiveInt = 20  # points per generation of nsga2
    trials: PositiveInt = 50  # points of the study, over all drivers and all their restarts
    pruning: Literal["asha", "none"] | None = None  # None: asha, but none for nsga2
    milestones: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)  # shares of the training
    reduction: float = Field(2.0, gt=1)  # ASHA keeps the best 1 / reduction at each milestone
    seed: NonNegativeInt = 0  # point n depends on (seed, n)
    study: str = ""  # empty: the experiment's name and what makes values comparable
    storage: str = ""  # sqlite:///<file> or postgresql://...; empty: studies.db in the store
    training: dict[str, Any] = Field(default_factory=dict)  # of points only, e.g. fewer steps
    heartbeat_s: PositiveFloat = 10.0  # a driver that misses three counts as dead
    warm_start: WarmStart | None = None  # points of another study to try first

    @property
    def prunes(self) -> bool:
        return self.pruning == "asha" or (self.pruning is None and self.sampler != "nsga2")

    @property
    def rungs(self) -> tuple[float, ...]:
        """The shares at which points are scored: only the end where none is pruned."""
        return self.milestones if self.prunes else (1.0,)


@dataclass(frozen=True)
class Search:
    """A checked search: every point of it can be resolved."""

    experiment: ExperimentSpec
    spec: SearchSpec
    space: Mapping[str, Parameter]  # a choice that others depend on comes before them
    defaults: Point  # the paper's values, or the file's own
    methods: Mapping[str, MethodCard]

    def trials(self, point: Point) -> list[Trial]:
        """The trials of a point, one per fold and seed. Raises InputError."""
        return expand(changed(shortened(self.experiment, self.spec), point), self.methods)

    @property
    def method(self) -> str:
        return self.experiment.grid.method[0].name


def load_search(path: Path, changes: tuple[str, ...] = ()) -> Search:
    """Read and check an experiment file with a `search:` section. Raises InputError that names
    everything that is wrong with the section."""
    from fssplat.methods import methods_named

    experiment = load_experiment(path, changes)
    if "space" not in experiment.search:  # a profile may shorten a search that is none
        raise InputError(
            f"{path}: no `search:` section with a `space`. See experiments/search/ for examples."
        )
    methods = methods_named(entry.name for entry in experiment.grid.method)
    return checked(experiment, methods, str(path))


def shortened(experiment: ExperimentSpec, spec: SearchSpec) -> ExperimentSpec:
    """The experiment as points train it; the best setting is written without these changes.

    They lie in the method's entry, which has the last word over what overrides and recipes say.
    """
    entries = [
        entry.model_copy(update={"training": merged(entry.training, spec.training)})
        for entry in experiment.grid.method
    ]
    grid = experiment.grid.model_copy(update={"method": tuple(entries)})
    return experiment.model_copy(update={"grid": grid})


def changed(experiment: ExperimentSpec, point: Point) -> ExperimentSpec:
    """The experiment with the point's values in its method."""
    entry = experiment.grid.method[0]
    parts: dict[str, Any] = {name: thawed(getattr(entry, name)) for name in SECTIONS}
    for name, value in point.items():
        *path, last = name.split(".")
        place = parts
        for step in path:
            place = place.setdefault(step, {})
        place[last] = value
    grid = experiment.grid.model_copy(update={"method": (entry.model_copy(update=parts),)})
    return experiment.model_copy(update={"grid": grid})


def thawed(value: Any) -> Any:
    """A copy whose mappings can be written."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    return value


def label(value: Any) -> Any:
    """A choice as Optuna stores it: plain values as they are, lists and mappings as JSON."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, sort_keys=True)
    return value


def value_in(trial: Trial, name: str) -> Any:
    """What a resolved trial has for a dotted name."""
    section, *path = name.split(".")
    place: Any = trial.training if section == "training" else getattr(trial.method, section)
    for step in path:
        place = place[step] if isinstance(place, Mapping) else getattr(place, step)
    return place


def active(space: Mapping[str, Parameter], name: str, point: Mapping[str, Any]) -> bool:
    """Whether a dimension counts, given the choices that were drawn before it."""
    return all(
        parent in point and label(point[parent]) in [label(v) for v in space[name].wanted(parent)]
        for parent in space[name].when
    )


# ------------------------------------------------------------------ checking


def checked(experiment: ExperimentSpec, methods: Mapping[str, MethodCard], where: str) -> Search:
    """The search, or one InputError with every error of its section."""
    spec = validate(SearchSpec, experiment.search, where, "search.")
    searched = shortened(experiment, spec)
    base = _one_method(searched, methods, where)
    errors: list[str] = []
    space: dict[str, Parameter] = {}
    names = known_names(methods[base.method.name])
    for name, setting in flattened(spec.space):
        here = f"search.space.{name}"
        found = list(unknown(name, names, base))
        if not found:
            try:
                parameter = validate(Parameter, setting, "", f"{here}.")
                found = list(bad_range(here, name, parameter, value_in(base, name)))
                space[name] = parameter
            except InputError as error:
                found = [str(error).removeprefix(": ")]
        errors += found
    ordered = list(in_order(space, errors))
    errors += bad_plan(spec, ordered)
    if not errors:
        errors += refused(searched, methods, {name: space[name] for name in ordered}, base)
    if errors:
        raise InputError(f"{where}: " + "; ".join(dict.fromkeys(errors)))
    chosen = {name: space[name] for name in ordered}
    return Search(experiment, spec, chosen, default_point(chosen, base), methods)


def _one_method(experiment: ExperimentSpec, methods: Mapping[str, MethodCard], where: str) -> Trial:
    """A trial of the unchanged experiment. Raises InputError for more than one cell a fold."""
    grid = experiment.grid
    for axis in ("dataset", "shot", "way", "method", "backbone"):
        found = len(getattr(grid, axis))
        if found > 1:
            raise InputError(
                f"{where}: grid.{axis} has {found} entries; a search has one, and one study each."
            )
    first = expand(experiment, methods)[0]
    if not methods[first.method.name].TRAINED:
        raise InputError(f"{where}: {first.method.name} is not trained; there is nothing to tune.")
    return first


def flattened(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and their settings, from a nested mapping, a dotted one, or a mixture."""
    for key, item in space.items():
        name = f"{prefix}{key}"
        nested = isinstance(item, Mapping) and item and not _is_parameter(item)
        if nested:
            yield from flattened(item, f"{name}.")
        else:
            yield name, item


def _is_parameter(item: Mapping[str, Any]) -> bool:
    """Whether a mapping describes one dimension: it does not lead to further mappings."""
    return not any(isinstance(value, Mapping) for key, value in item.items() if key != "when")


def known_names(card: MethodCard) -> list[str]:
    """Every name that a space of this method may have."""
    training = [name for name in settings(TrainingSpec) if name not in (*NOT_SEARCHED, "augment")]
    return [
        *(f"loss_weights.{name}" for name in card.LOSS_WEIGHTS),
        *(f"momentum.{name}" for name in card.MOMENTUM),
        *(f"options.{name}" for name in card.Options.model_fields),
        *(f"training.{name}" for name in training),
    ]


def unknown(name: str, names: list[str], base: Trial) -> Iterator[str]:
    """What is wrong with a name: it is none, the method lacks it, or it cannot be searched."""
    if name in names:
        return
    here, (section, _, rest) = f"search.space.{name}", name.partition(".")
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]}?" if near else ""
    if section == "training" and rest in NOT_SEARCHED:
        yield f"{here} is not for a search: {NOT_SEARCHED[rest]}"
    elif section in ("loss_weights", "momentum") and rest:
        has = [one.partition(".")[2] for one in names if one.startswith(f"{section}.")]
        what = "loss" if section == "loss_weights" else "momentum term"
        hint = f" {hint}" if hint else ""
        yield f"{here}: {base.method.name} has no {what} {rest!r}. It has: {_list(has)}.{hint}"
    else:
        same = [one for one in names if one.startswith(f"{section}.")]
        known = _list(same) if same else ", ".join(f"{one}.*" for one in SECTIONS)
        yield f"{here} is not a setting. {hint or f'Known: {known}.'}"


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"


def bad_range(here: str, name: str, parameter: Parameter, default: Any) -> Iterator[str]:
    """What is wrong with a dimension's values by themselves."""
    if parameter.choice is not None:
        labels = [label(value) for value in parameter.choice]
        if len(set(map(str, labels))) < 2:
            yield f"{here}: choice {list(parameter.choice)} leaves no choice"
    else:
        low, high = parameter.bounds or (0, 0)
        if not (math.isfinite(low) and math.isfinite(high)):
            yield f"{here}: low {low:g} and high {high:g} must be finite"
        elif low >= high:
            yield f"{here}: low {low:g} is not below high {high:g}"
        if parameter.log is not None and low <= 0:
            yield f"{here}: a log range starts above 0 (got {low:g}); use uniform for one with 0"
        if name.startswith("loss_weights.") and low < 0:
            yield f"{here}: a loss weight is not negative (got {low:g})"
        if name.startswith("momentum.") and not 0 <= low <= high < 1:
            yield f"{here}: a momentum lies in [0, 1) (got {low:g} to {high:g})"
    if not parameter.when and not parameter.holds(default):
        yield f"{here}: leaves out the default {json.dumps(default)}, which is always tried first"


def in_order(space: Mapping[str, Parameter], errors: list[str]) -> Iterator[str]:
    """Names with every `when` after the choice it asks; adds what is wrong to `errors`."""
    given: set[str] = set()
    left = dict(space)
    for name, parameter in space.items():
        for parent in parameter.when:
            errors += _bad_when(f"search.space.{name}.when", parent, parameter, space)
    while ready := [n for n, p in left.items() if not (set(p.when) & set(left))]:
        for name in ready:
            given.add(name)
            del left[name]
            yield name
    if left:
        errors.append(f"search.space: {', '.join(left)} depend on each other through `when`")


def _bad_when(
    here: str, parent: str, parameter: Parameter, space: Mapping[str, Parameter]
) -> Iterator[str]:
    if parent not in space:
        near = difflib.get_close_matches(parent, space, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Add it as a choice."
        yield f"{here}: {parent} is not in the space. {hint}"
    elif space[parent].choice is None:
        yield f"{here}: {parent} is not a choice"
    else:
        for value in parameter.wanted(parent):
            if not space[parent].holds(value):
                yield f"{here}: {parent} is never {json.dumps(value)}"


def bad_plan(spec: SearchSpec, names: list[str]) -> Iterator[str]:
    """What is wrong with how it is searched."""
    if not names and not spec.space:
        yield "search.space is empty. Name a setting, e.g. `training: {lr: {log: [1e-4, 1e-1]}}`"
    if spec.sampler == "nsga2" and spec.pruning == "asha":
        yield "search.pruning: nsga2 has two objectives and prunes nothing. Remove pruning: asha"
    shares = spec.milestones
    rising = all(low < high for low, high in pairwise(shares))
    if not shares or not rising or shares[0] <= 0 or shares[-1] != 1.0:
        yield f"search.milestones: {list(shares)} must rise from above 0 to 1"


def refused(
    experiment: ExperimentSpec,
    methods: Mapping[str, MethodCard],
    space: Mapping[str, Parameter],
    base: Trial,
) -> Iterator[str]:
    """Values that the method's own config does not take, or that something else overrides."""
    defaults = default_point(space, base)
    for name, parameter in space.items():
        for value in parameter.ends():
            point = {**defaults, **_parents(space, name), name: value}
            try:
                trials = expand(changed(experiment, point), methods)
            except InputError as error:
                yield f"search.space.{name}: {json.dumps(value)} is refused: {error}"
                continue
            if any(not _same(value_in(trial, name), value) for trial in trials):
                yield f"search.space.{name}: an entry of overrides sets it. Remove that entry"
                break


def _same(found: Any, value: Any) -> bool:
    return bool(label(found) == label(value)) or found == value


def _parents(space: Mapping[str, Parameter], name: str) -> Point:
    """Choices under which a dimension counts."""
    point: Point = {}
    for parent in space[name].when:
        point.update(_parents(space, parent))
        point[parent] = space[name].wanted(parent)[0]
    return point


def default_point(space: Mapping[str, Parameter], base: Trial) -> Point:
    """The values that the file has without a search: the paper's, unless it changes them."""
    point: Point = {}
    for name in space:
        value = value_in(base, name)
        if active(space, name, point) and space[name].holds(value):
            point[name] = value
    return point
