"""`exclude` and `overrides`: which cells of the grid a rule matches, and checks of the rules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.similar import did_you_mean, known
from fssplat.experiment.datasets import BUILT_IN
from fssplat.experiment.schema import ExperimentSpec, MethodEntry

WHOLE_NUMBERS = ("fold", "shot", "way", "seed")  # axes
Rule = tuple[str, Mapping[str, Any]]  # its place in the file, such as exclude[0]; axis -> value


def dataset_names(experiment: ExperimentSpec) -> tuple[str, ...]:
    """The data sets that are scored: `grid.dataset`, or else `dataset`; empty without both."""
    return experiment.grid.dataset or ((experiment.dataset,) if experiment.dataset else ())


def all_datasets(experiment: ExperimentSpec) -> list[str]:
    """The data sets that are scored, trained on, or declared."""
    trained_on = [experiment.train_on] if experiment.train_on else []
    return list(dict.fromkeys([*dataset_names(experiment), *trained_on, *experiment.datasets]))


def combinations(experiment: ExperimentSpec) -> Iterator[dict[str, Any]]:
    """Each combination of the axes' values, by axis, `exclude` not applied; `place` is that of the
    method in grid.method."""
    grid = experiment.grid
    axes = {
        "dataset": dataset_names(experiment), "fold": grid.fold, "shot": grid.shot,
        "way": grid.way, "place": range(len(grid.method)), "backbone": grid.backbone,
        "seed": grid.seed,
    }  # fmt: skip
    for combination in product(*axes.values()):
        values: dict[str, Any] = dict(zip(axes, combination, strict=True))
        yield {**values, "method": grid.method[values["place"]]}


def kept_combinations(experiment: ExperimentSpec) -> Iterator[dict[str, Any]]:
    """The combinations that `exclude` does not name."""
    for values in combinations(experiment):
        if not any(matches(values, rule, experiment.name) for rule in experiment.exclude):
            yield values


def matches(values: Mapping[str, Any], rule: Mapping[str, Any], where: str) -> bool:
    """Whether a combination has every value that a rule names; a list means any of its values.

    Raises InputError if the rule names something that is not an axis.
    """
    names = _names(values)
    for axis, accepted in rule.items():
        if axis not in names:
            raise InputError(f"{where}: {axis} is not an axis. {known(axis, names)}")
        if names[axis] not in as_list(accepted):
            return False
    return True


def check_values(rules: Iterable[Rule], where: str, datasets: Iterable[str] = ()) -> None:
    """Raises InputError for a value that no cell of any grid can have.

    `datasets` are those that the experiment uses or declares, beside the built-in ones.
    """
    names = list(dict.fromkeys((*BUILT_IN, *datasets)))
    for place, rule in rules:
        for axis, accepted in rule.items():
            for value in as_list(accepted):
                if axis in WHOLE_NUMBERS and type(value) is not int:
                    raise InputError(
                        f"{where}: {place}: {axis} {value!r} is not a whole number. Give one, as "
                        f"in {axis}: 1."
                    )
                if axis == "dataset" and value not in names:
                    raise InputError(
                        f"{where}: {place}: data set {value!r} is unknown. {known(value, names)}"
                    )


def check_matches(
    excludes: Sequence[Rule], overrides: Sequence[Rule], grids: Sequence[ExperimentSpec], where: str
) -> None:
    """Raises InputError for a rule that matches no cell in any of the grids.

    An override must match a cell that `exclude` leaves.
    """
    check_values([*excludes, *overrides], where, [n for grid in grids for n in all_datasets(grid)])
    for rules, cells_of in ((excludes, combinations), (overrides, kept_combinations)):
        missing = list(rules)
        for grid in grids:
            cells = list(cells_of(grid)) if missing else []
            missing = [
                (place, rule)
                for place, rule in missing
                if not any(matches(values, rule, f"{where}: {place}") for values in cells)
            ]
        if missing:
            place, rule = missing[0]
            raise InputError(
                f"{where}: {place} matches no cell of the grid{_why(rule, grids[0])} "
                "Correct it, or leave it out."
            )


def _why(rule: Mapping[str, Any], experiment: ExperimentSpec) -> str:
    """Which value the grid lacks, for the end of a sentence."""
    cells = list(combinations(experiment))
    for axis, accepted in rule.items():
        if any(matches(values, {axis: accepted}, "") for values in cells):
            continue
        have = dict.fromkeys(_names(values)[axis] for values in cells)
        listed = ", ".join(map(repr, have))
        near = [did_you_mean(value, map(str, have)) for value in as_list(accepted)]
        hint = " ".join(filter(None, (near[0] if near else "", f"The grid has {listed}.")))
        return f": no {axis} is {accepted!r}. {hint}"
    return ", or only cells that exclude removes."


def _names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The value of a combination on each axis that a rule may name."""
    entry: MethodEntry = values["method"]
    axes = {axis: value for axis, value in values.items() if axis != "place"}
    return {**axes, "method": entry.name, "variant": entry.variant or entry.preset}


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
