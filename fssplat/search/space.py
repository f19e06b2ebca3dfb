"""The `search:` section of an experiment file: its settings, and what a point of its space is.

    search:
      space:
        loss_weights: {auxiliary: {log: [0.01, 10]}}      # any setting of the method, by its name
        momentum: {sgd: {uniform: [0.5, 0.99]}}
        training: {lr: {log: [1e-4, 1e-1]}}
        options: {clusters: {integer: [2, 10]}, mine: {choice: [true, false]}}

A point maps such names, dotted, to values. `reading.py` checks the section. Imports neither Ray
nor Optuna.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from fssplat.experiment.card import MethodCard
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import (
    Count,
    DrawSeed,
    Episodes,
    ExperimentSpec,
    Layer,
    MethodChanges,
    MethodEntry,
    Spec,
    merged,
)
from fssplat.experiment.trial import Trial

Point = dict[str, Any]  # dotted name -> value
KINDS = ("uniform", "log", "integer", "choice")
SECTIONS = ("loss_weights", "momentum", "training", "options")


class Parameter(Spec):
    """One dimension of the space: exactly one of the four kinds, and when it is active."""

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

    def extremes(self) -> tuple[Any, ...]:
        """All choices, or both bounds: if the method accepts these, it accepts every value."""
        return self.choice if self.choice is not None else self.bounds or ()

    def contains(self, value: Any) -> bool:
        if self.choice is not None:
            return stored_value(value) in [stored_value(one) for one in self.choice]
        low, high = self.bounds or (math.inf, -math.inf)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and low <= value <= high

    def active_values(self, name: str) -> list[Any]:
        """The values of the choice `name` for which this parameter is active."""
        values = self.when[name]
        return list(values) if isinstance(values, list | tuple) else [values]


class WarmStart(Spec):
    """Points of another study that are tried first, after the paper's values."""

    study: str  # name of the other study
    storage: str = ""  # its database; empty: that of this study
    best: Count = 5  # how many points


class SearchSpec(Spec):
    """The `search:` section; `space` is parsed later, see `reading.checked`."""

    space: dict[str, Any]  # section -> name -> dimension
    selection: Literal["base-val", "novel-best"] = "base-val"  # which classes points are scored by
    episodes: Episodes = 200  # per fold and milestone
    sampler: Literal["tpe", "cmaes", "random", "nsga2"] = "tpe"  # nsga2: mIoU and episodes/s
    startup: Count = 10  # random points before TPE models them
    population: Count = 20  # points per generation of nsga2
    trials: Count = 50  # points of the study, over all drivers and all their restarts
    pruning: Literal["asha", "none"] | None = None  # None: asha, but none for nsga2
    milestones: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)  # shares of the training
    reduction: float = Field(
        2.0, gt=1, le=1e6
    )  # ASHA keeps the best 1 / reduction at each milestone
    seed: DrawSeed = 0  # point n depends on (seed, n)
    study: str = ""  # empty: the experiment's name and a digest of all that values depend on
    storage: str = ""  # sqlite:///<file> or postgresql://...; empty: studies.db in the store
    training: dict[str, Any] = Field(default_factory=dict)  # of points only, e.g. fewer steps
    heartbeat_s: float = Field(10.0, gt=0, le=86_400)  # a driver that misses three counts as dead
    warm_start: WarmStart | None = None  # points of another study to try first

    @property
    def prunes(self) -> bool:
        return self.pruning == "asha" or (self.pruning is None and self.sampler != "nsga2")

    @property
    def scored_shares(self) -> tuple[float, ...]:
        """The shares of the training at which points are scored: without pruning, only the end."""
        return self.milestones if self.prunes else (1.0,)


@dataclass(frozen=True)
class Search:
    """A checked search."""

    experiment: ExperimentSpec
    spec: SearchSpec
    space: Mapping[str, Parameter]  # a choice comes before the parameters that depend on it
    defaults: Point  # the values without a search: the paper's, or the file's
    methods: Mapping[str, MethodCard]

    def trials(self, point: Point) -> list[Trial]:
        """The trials of a point, one per fold and seed. Raises InputError."""
        as_trained = with_point_training(self.experiment, self.spec)
        return expand(with_point(as_trained, point), self.methods)

    @property
    def method(self) -> str:
        return self.experiment.grid.method[0].name


# ------------------------------------------------------------------ points in an experiment


def with_point_training(experiment: ExperimentSpec, spec: SearchSpec) -> ExperimentSpec:
    """The experiment with `search.training`; the file of the best point is written without it.

    The changes go into the method's entry, which overrides recipes and `overrides`.
    """
    entries = [
        entry.model_copy(update={"training": merged(entry.training, spec.training)})
        for entry in experiment.grid.method
    ]
    changes = MethodChanges(training=spec.training)
    return _with_entries(experiment, entries, changes)


def with_point(experiment: ExperimentSpec, point: Point) -> ExperimentSpec:
    """The experiment with the point's values in its method's entry."""
    entry = experiment.grid.method[0]
    parts: dict[str, Any] = {name: _mutable_copy(getattr(entry, name)) for name in SECTIONS}
    changes: dict[str, Any] = {}
    for name, value in point.items():
        *path, last = name.split(".")
        for tree in (parts, changes):
            inner = tree
            for step in path:
                inner = inner.setdefault(step, {})
            inner[last] = value
    entries = [entry.model_copy(update=parts)]
    return _with_entries(experiment, entries, MethodChanges.model_validate(changes))


def _with_entries(
    experiment: ExperimentSpec, entries: list[MethodEntry], changes: MethodChanges
) -> ExperimentSpec:
    """The experiment with other entries; `changes` also win over its profile and --set."""
    grid = experiment.grid.model_copy(update={"method": tuple(entries)})
    layers = experiment.layers
    if layers:
        methods = dict.fromkeys(range(len(entries)), changes)
        layers = (*layers, Layer(source="search", methods=methods))
    return experiment.model_copy(update={"grid": grid, "layers": layers})


def _mutable_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _mutable_copy(item) for key, item in value.items()}
    return value


def value_in(trial: Trial, name: str) -> Any:
    """The value of a resolved trial at a dotted name."""
    section, *path = name.split(".")
    inner: Any = trial.training if section == "training" else getattr(trial.method, section)
    for step in path:
        inner = inner[step] if isinstance(inner, Mapping) else getattr(inner, step)
    return inner


def is_active(space: Mapping[str, Parameter], name: str, point: Mapping[str, Any]) -> bool:
    """Whether every choice that the parameter depends on has a value of its `when`."""
    return all(
        parent in point
        and stored_value(point[parent])
        in [stored_value(value) for value in space[name].active_values(parent)]
        for parent in space[name].when
    )


# ------------------------------------------------------------------ values as Optuna stores them


def stored_value(value: Any) -> Any:
    """A choice as Optuna stores it: plain values unchanged, lists and mappings as JSON."""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, sort_keys=True)
    return value


def original_value(parameter: Parameter, stored: Any) -> Any:
    """The inverse of `stored_value`."""
    for value in parameter.choice or ():
        if stored_value(value) == stored:
            return value
    return stored
