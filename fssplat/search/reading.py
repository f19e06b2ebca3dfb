"""Reads a file with a `search:` section and checks it; one message names all errors of the section.

Imports neither Ray nor Optuna.
"""

import json
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.printing import short
from fssplat.common.similar import did_you_mean
from fssplat.experiment.card import MethodCard
from fssplat.experiment.checks.problems import settings, validate
from fssplat.experiment.expand import expand
from fssplat.experiment.reading import Reading, read_experiment
from fssplat.experiment.recipe import SET, names_in
from fssplat.experiment.rules import kept_combinations, matches
from fssplat.experiment.schema import ExperimentSpec, TrainingSpec
from fssplat.experiment.trial import Trial
from fssplat.search.space import (
    SECTIONS,
    Parameter,
    Point,
    Search,
    SearchSpec,
    is_active,
    stored_value,
    value_in,
    with_point,
    with_point_training,
)

LENGTHS = ("steps", "epochs")
NOT_SEARCHED = {  # names in `training` that set the amount or the run, not how well it goes
    "steps": "every point trains equally long",
    "epochs": "every point trains equally long",
    "micro_batch": "it only says how a batch fits into memory",
    "checkpoint": "it takes the place of a training",
    "seed": "list seeds in grid.seed; a point is scored by their mean",
    "shot": "list it in grid.shot",
}


def load_search(path: Path, changes: tuple[str, ...] = ()) -> Search:
    """Read and check an experiment file with a `search:` section.

    Raises InputError that names every error of the section.
    """
    from fssplat.methods import methods_named

    reading = read_experiment(path, changes)
    experiment = reading.experiment
    if "space" not in experiment.search:  # a profile may shorten searches; it does not make one
        raise InputError(
            f"{path}: no `search:` section with a `space`. See experiments/search/ for examples."
        )
    _check_length_of_points(reading, str(path))
    methods = methods_named(entry.name for entry in experiment.grid.method)
    return checked(experiment, methods, str(path))


def _check_length_of_points(reading: Reading, where: str) -> None:
    """Raises InputError if --set gives a setting of training that `search.training` replaces."""
    of_points = reading.experiment.search.get("training")
    for layer in reading.experiment.layers:
        if layer.source != SET or not isinstance(of_points, Mapping):
            continue
        for name in layer.training:
            replaced = [one for one in LENGTHS if one in of_points] if name in LENGTHS else []
            replaced += [name] if name in of_points else []
            by_file = [
                one for one in replaced if reading.sources.get(f"search.training.{one}") != SET
            ]
            if by_file:
                raise InputError(
                    f"{where}: training.{name} does not reach the points of the search, because "
                    f"search.training.{by_file[0]} replaces it. Set search.training.{name}."
                )


def checked(experiment: ExperimentSpec, methods: Mapping[str, MethodCard], where: str) -> Search:
    """The search. Raises one InputError with every error of its section."""
    spec = validate(SearchSpec, experiment.search, where, "search.")
    as_trained = with_point_training(experiment, spec)
    base = _base_trial_of_points(experiment, as_trained, methods, where)
    errors: list[str] = []
    space = _parameters(spec, methods[base.method.name], base, errors)
    space = {name: space[name] for name in _in_order(space, errors)}
    errors += _plan_errors(spec, space)
    if not errors:
        errors += _overridden(as_trained, space)
        errors += _refused_values(as_trained, methods, space, base)
    if errors:
        raise InputError(f"{where}: " + "; ".join(dict.fromkeys(errors)))
    return Search(experiment, spec, space, _default_point(space, base), methods)


def _base_trial_of_points(
    experiment: ExperimentSpec,
    as_trained: ExperimentSpec,
    methods: Mapping[str, MethodCard],
    where: str,
) -> Trial:
    """`_base_trial` of the points. Raises InputError, with `search.training` if that is wrong."""
    try:
        return _base_trial(as_trained, methods, where)
    except InputError as error:
        _base_trial(experiment, methods, where)  # raises the same error if the file is wrong
        raise InputError(f"{where}: search.training: {_without_entry(error)}") from error


def _without_entry(error: InputError) -> str:
    """The text without the method's entry as the place: a search writes points into it."""
    return str(error).replace(" (in method entry grid.method[0])", "")


def _base_trial(experiment: ExperimentSpec, methods: Mapping[str, MethodCard], where: str) -> Trial:
    """A trial of the unchanged experiment. Raises InputError if a fold has more than one cell."""
    grid = experiment.grid
    for axis in ("dataset", "shot", "way", "method", "backbone"):
        count = len(getattr(grid, axis))
        if count > 1:
            raise InputError(
                f"{where}: grid.{axis} lists {count} values, a search tunes one. Start one search "
                "per value."
            )
    first = expand(experiment, methods)[0]
    if not methods[first.method.name].TRAINED:
        raise InputError(
            f"{where}: {first.method.name} is not trained; there is nothing to tune. Name another "
            "method."
        )
    return first


# ------------------------------------------------------------------ parameters


def _parameters(
    spec: SearchSpec, card: MethodCard, base: Trial, errors: list[str]
) -> dict[str, Parameter]:
    """The valid parameters of the space by dotted name; adds the errors of the others."""
    space: dict[str, Parameter] = {}
    names = _known_names(card)
    for name, setting in _flattened(spec.space):
        here = f"search.space.{name}"
        found = list(_name_errors(name, names, base))
        if not found:
            try:
                parameter = validate(Parameter, setting, "", f"{here}.")
                found = list(_range_errors(here, name, parameter, value_in(base, name)))
                space[name] = parameter
            except InputError as error:
                found = [str(error).removeprefix(": ")]
        errors += found
    return space


def _flattened(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and their settings, from a nested mapping, a dotted one, or a mixture."""
    for key, item in space.items():
        name = f"{prefix}{key}"
        section = name in SECTIONS or not (isinstance(item, Mapping) and _is_parameter(item))
        nested = isinstance(item, Mapping) and item and section
        if nested:
            yield from _flattened(item, f"{name}.")
        else:
            yield name, item


def _is_parameter(item: Mapping[str, Any]) -> bool:
    """Whether a mapping describes one parameter: except for `when`, it contains no mapping."""
    return not any(isinstance(value, Mapping) for key, value in item.items() if key != "when")


def _known_names(card: MethodCard) -> list[str]:
    """Every name that a space of this method may have."""
    training = [name for name in settings(TrainingSpec) if name not in (*NOT_SEARCHED, "augment")]
    return [
        *(f"loss_weights.{name}" for name in card.LOSS_WEIGHTS),
        *(f"momentum.{name}" for name in card.MOMENTUM),
        *(f"options.{name}" for name in card.Options.model_fields),
        *(f"training.{name}" for name in training),
    ]


def _name_errors(name: str, names: list[str], base: Trial) -> Iterator[str]:
    """An error if the name is no setting, the method lacks it, or it cannot be searched."""
    if name in names:
        return
    here, (section, _, rest) = f"search.space.{name}", name.partition(".")
    hint = did_you_mean(name, names)
    if section == "training" and rest in NOT_SEARCHED:
        yield f"{here} cannot be searched: {NOT_SEARCHED[rest]}. Leave it out"
    elif section in ("loss_weights", "momentum") and rest:
        has = [one.partition(".")[2] for one in names if one.startswith(f"{section}.")]
        what = "loss" if section == "loss_weights" else "momentum term"
        hint = f" {hint}" if hint else ""
        yield f"{here}: {base.method.name} has no {what} {rest!r}. It has: {_listed(has)}.{hint}"
    else:
        same = [one for one in names if one.startswith(f"{section}.")]
        known = _listed(same) if same else ", ".join(f"{one}.*" for one in SECTIONS)
        yield f"{here} is not a setting. {hint or f'Known: {known}.'}"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _range_errors(here: str, name: str, parameter: Parameter, default: Any) -> Iterator[str]:
    """The errors of a parameter's values that can be found without the method."""
    if parameter.choice is not None:
        stored = [stored_value(value) for value in parameter.choice]
        if len(set(map(str, stored))) < 2:
            given = short(str(list(parameter.choice)))
            yield f"{here}: choice {given} has fewer than 2 different values. Name another one"
    else:
        low, high = parameter.bounds or (0, 0)
        if not (math.isfinite(low) and math.isfinite(high)):
            yield f"{here}: low {low:g} and high {high:g} must be finite"
        elif low >= high:
            yield f"{here}: low {low:g} is not below high {high:g}. Give the lower bound first"
        if parameter.log is not None and low <= 0:
            yield f"{here}: a log range starts above 0 (got {low:g}); use uniform for one with 0"
        if name.startswith("loss_weights.") and low < 0:
            yield f"{here}: a loss weight is not negative (got {low:g})"
        if name.startswith("momentum.") and not 0 <= low <= high < 1:
            yield f"{here}: a momentum is in [0, 1) (got {low:g} to {high:g})"
    if not parameter.when and not parameter.contains(default):
        yield (
            f"{here}: does not contain the default {json.dumps(default)}, which is always tried "
            "first. Include it, or set another one in the file"
        )


# ------------------------------------------------------------------ conditions


def _in_order(space: Mapping[str, Parameter], errors: list[str]) -> Iterator[str]:
    """The names, each one after the choices in its `when`; adds what is wrong to `errors`."""
    remaining = dict(space)
    for name, parameter in space.items():
        for parent in parameter.when:
            errors += _condition_errors(f"search.space.{name}.when", parent, parameter, space)
    while ready := [n for n, p in remaining.items() if not (set(p.when) & set(remaining))]:
        for name in ready:
            del remaining[name]
            yield name
    if remaining:
        errors.append(
            f"search.space: {', '.join(remaining)} depend on each other through `when`. Remove one"
        )


def _condition_errors(
    here: str, parent: str, parameter: Parameter, space: Mapping[str, Parameter]
) -> Iterator[str]:
    if parent not in space:
        hint = did_you_mean(parent, space) or "Add it as a choice."
        yield f"{here}: {parent} is not in the space. {hint}"
    elif space[parent].choice is None:
        yield f"{here}: {parent} is not a choice. Name one that is"
    else:
        for value in parameter.active_values(parent):
            if not space[parent].contains(value):
                yield f"{here}: {parent} is never {json.dumps(value)}. Name one of its values"


def _plan_errors(spec: SearchSpec, space: Mapping[str, Parameter]) -> Iterator[str]:
    """The errors of the settings that say how the space is searched."""
    if not space and not spec.space:
        yield "search.space is empty. Name a setting, e.g. `training: {lr: {log: [1e-4, 1e-1]}}`"
    if spec.sampler == "nsga2" and spec.pruning == "asha":
        yield "search.pruning: nsga2 has two objectives and prunes nothing. Remove pruning: asha"
    shares = spec.milestones
    rising = all(low < high for low, high in pairwise(shares))
    if not shares or not rising or shares[0] <= 0 or shares[-1] != 1.0:
        yield f"search.milestones: {list(shares)} must rise from above 0 to 1"


# ------------------------------------------------------------------ values in the method


def _refused_values(
    experiment: ExperimentSpec,
    methods: Mapping[str, MethodCard],
    space: Mapping[str, Parameter],
    base: Trial,
) -> Iterator[str]:
    """An error for each value that the method refuses."""
    defaults = _default_point(space, base)
    for name, parameter in space.items():
        for value in parameter.extremes():
            point = {**defaults, **_parent_choices(space, name), name: value}
            try:
                expand(with_point(experiment, point), methods)
            except InputError as error:
                reason = _without_entry(error)
                yield f"search.space.{name}: {json.dumps(value)} is refused: {reason}"


def _overridden(experiment: ExperimentSpec, space: Mapping[str, Parameter]) -> Iterator[str]:
    """An error for each parameter that an override of some cell sets."""
    layers = (override for layer in experiment.layers for override in layer.overrides)
    cells = list(kept_combinations(experiment))
    for override in (*experiment.overrides, *layers):
        if not any(matches(values, override.where, experiment.name) for values in cells):
            continue
        sections = {"training": override.training, "options": override.options}
        for name in names_in(sections):
            if name in space:
                yield f"search.space.{name}: an entry of overrides sets it. Remove that entry"


def _parent_choices(space: Mapping[str, Parameter], name: str) -> Point:
    """Values of other choices for which this parameter is active."""
    point: Point = {}
    for parent in space[name].when:
        point.update(_parent_choices(space, parent))
        point[parent] = space[name].active_values(parent)[0]
    return point


def _default_point(space: Mapping[str, Parameter], base: Trial) -> Point:
    """The values that the file has without a search: the paper's, unless it changes them."""
    point: Point = {}
    for name in space:
        value = value_in(base, name)
        if is_active(space, name, point) and space[name].contains(value):
            point[name] = value
    return point
