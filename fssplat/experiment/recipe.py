"""The settings of one cell, merged from layers; a later layer replaces an earlier one.

recipe of the method < preset < file's training < overrides < method entry < profile < --set

A profile and --set have layers of their own kind, in the same order: training < overrides < entry.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from fssplat.common.errors import InputError
from fssplat.common.similar import known
from fssplat.experiment.card import MethodCard
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import (
    BackboneSpec,
    MethodChanges,
    MethodEntry,
    MethodSpec,
    Override,
    TrainingSpec,
    merged,
    replaced_length,
)

FILE = "file's training"  # source of the file's own `training:`
SET = "--set"
PLAIN = (FILE, SET)  # the sources that a message need not name
Sourced = tuple[str, Mapping[str, Any]]  # where settings come from, and the settings
Sources = dict[str, str]  # dotted name of a setting -> where its value comes from


@dataclass(frozen=True)
class CellLayer:
    """What a profile or --set changes in one cell."""

    source: str
    training: Mapping[str, Any]
    overrides: tuple[tuple[int, Override], ...]  # those that match the cell, with their places
    method: MethodChanges


@dataclass(frozen=True)
class Cell:
    """One combination of the axes, with what the experiment says about it."""

    entry: MethodEntry
    place: int  # of the entry in grid.method
    card: MethodCard
    backbone: BackboneSpec
    train_on: str  # data set that is trained on
    recipe_of: str  # data set whose recipes are used: of one of your own, a built-in one
    shot: int
    way: int
    seed: int
    overrides: tuple[tuple[int, Override], ...]  # those that match the cell, with their places
    layers: tuple[CellLayer, ...]  # above the entry, the strongest last
    label: str  # experiment and method, for messages

    @property
    def preset(self) -> Mapping[str, Any]:
        """The settings of the named preset; empty without one. Raises InputError."""
        name = self.entry.preset
        if not name:
            return {}
        if name not in self.card.PRESETS:
            raise InputError(
                f"{self.label} has no preset {name!r}. {known(name, self.card.PRESETS)}"
            )
        return self.card.PRESETS[name]

    @property
    def recipe_source(self) -> str:
        on = "" if self.recipe_of == self.train_on else f" on {self.recipe_of}"
        return f"recipe of {self.entry.name}{on}"

    @property
    def preset_source(self) -> str:
        return f"preset {self.entry.preset}"

    @property
    def entry_source(self) -> str:
        return f"method entry grid.method[{self.place}]"


Section = Literal["options", "loss_weights", "momentum", "training"]


def stacked(layers: Iterable[Sourced]) -> tuple[dict[str, Any], Sources]:
    """The layers merged in their order, and which layer gave each value."""
    values: dict[str, Any] = {}
    sources: Sources = {}
    for source, layer in layers:
        if layer:
            values = merged(values, layer)
            sources.pop(replaced_length(layer), None)
            names = list(names_in(layer))
            inside = tuple(f"{name}." for name in names)  # of a section that a value replaces
            sources = {
                name: below for name, below in sources.items() if not name.startswith(inside)
            }
            sources |= dict.fromkeys(names, source)
    return values, sources


def names_in(layer: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of the values in a nested mapping."""
    for key, value in layer.items():
        if isinstance(value, Mapping) and value:
            yield from names_in(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _above_entry(cell: Cell, section: Section) -> Iterator[Sourced]:
    """What the profile and --set give for a section of the cell's method."""
    for layer in cell.layers:
        if section == "training":
            yield layer.source, layer.training
        if section in ("training", "options"):
            for number, override in layer.overrides:
                yield f"{layer.source}: overrides[{number}]", getattr(override, section)
        yield layer.source, getattr(layer.method, section)


def options_of(cell: Cell) -> tuple[BaseModel, Sources]:
    """The method's options. Raises InputError for an unknown option or a wrong value."""
    values, sources = stacked(
        [
            (cell.recipe_source, cell.card.options_for(cell.recipe_of)),
            (cell.preset_source, cell.preset.get("options", {})),
            *((f"overrides[{number}]", one.options) for number, one in cell.overrides),
            (cell.entry_source, cell.entry.options),
            *_above_entry(cell, "options"),
        ]
    )
    other = {f"options.{key}": source for key, source in sources.items() if source not in PLAIN}
    return validate(cell.card.Options, values, cell.label, "options.", sources=other), sources


def method_of(cell: Cell, options: BaseModel) -> tuple[MethodSpec, Sources]:
    """The method with all options, loss weights and momentum terms, and where the terms are from.

    Raises InputError for a term that the method does not have.
    """
    weights, weight_sources = _terms(cell, "loss_weights", cell.card.LOSS_WEIGHTS)
    momentum, momentum_sources = _terms(cell, "momentum", cell.card.MOMENTUM)
    method = MethodSpec(
        name=cell.entry.name,
        variant=cell.entry.variant or cell.entry.preset,
        options=_recorded(options, cell.card.LATER_OPTIONS),
        loss_weights=weights,
        momentum=momentum,
    )
    return method, {**weight_sources, **momentum_sources}


def _recorded(options: BaseModel, later: frozenset[str]) -> dict[str, Any]:
    """The options of a trial: all but those of `later` that have their default."""
    defaults = {name: type(options).model_fields[name].default for name in later}
    left_out = {name for name, value in defaults.items() if getattr(options, name) == value}
    return options.model_dump(mode="json", exclude=left_out)


def _terms(
    cell: Cell, kind: Literal["loss_weights", "momentum"], default: Mapping[str, float]
) -> tuple[dict[str, float], Sources]:
    values, sources = stacked(
        [
            (cell.recipe_source, default),
            (cell.preset_source, cell.preset.get(kind, {})),
            (cell.entry_source, getattr(cell.entry, kind)),
            *_above_entry(cell, kind),
        ]
    )
    for name in values:
        if name not in default:
            raise InputError(
                f"{cell.label}: {kind}.{name} is not a term of the method. {known(name, default)}"
            )
    return values, {f"{kind}.{name}": source for name, source in sources.items()}


def training_of(
    cell: Cell, experiment: Mapping[str, Any], protocol: Protocol
) -> tuple[TrainingSpec, Sources]:
    """The training with its shot and its seed; `experiment` are the file's training settings.

    Raises InputError for an unknown setting, a wrong value, or one that cannot have an effect.
    """
    preset, shot_is_the_grids = cell.preset, _trained_per_shot(cell.card, protocol)
    recipe: list[Sourced] = [
        (cell.recipe_source, cell.card.recipe(cell.recipe_of, cell.backbone.name)),
        (cell.preset_source, preset.get("training", {})),
        (cell.preset_source, preset.get("training_on", {}).get(cell.recipe_of, {})),
    ]
    given: list[Sourced] = [
        (FILE, experiment),
        *((f"overrides[{number}]", one.training) for number, one in cell.overrides),
        (cell.entry_source, cell.entry.training),
        *_above_entry(cell, "training"),
    ]
    _check_layers(cell, given, shot_is_the_grids)
    if cell.card.TRAINED:
        recipe += given
        if shot_is_the_grids:
            recipe.append(("grid.shot", {"shot": cell.shot}))
    elif any(layer for _, layer in given):
        _checked_training(cell, *stacked([*recipe, *given]))  # not used, and right all the same
    values, sources = stacked(recipe)
    if values.get("checkpoint"):
        _check_given_weights(cell, values, sources)
        recipe.append(("training.checkpoint", {"steps": 0}))
    recipe.append(("grid.seed", {"seed": cell.seed if _uses_seed(cell, values) else 0}))
    values, sources = stacked(recipe)
    return _checked_training(cell, values, sources), sources


def _checked_training(cell: Cell, values: Mapping[str, Any], sources: Sources) -> TrainingSpec:
    other = {f"training.{key}": source for key, source in sources.items() if source not in PLAIN}
    return validate(TrainingSpec, values, cell.label, "training.", sources=other)


def _trained_per_shot(card: MethodCard, protocol: Protocol) -> bool:
    """Whether each shot of the grid has a training of its own.

    A method that lets shots vote trains on one support, whatever the grid's shot is.
    """
    if card.SHOT_FUSION == "vote":
        return False
    apart = {"apart": True, "reuse": False, "method": not card.SHOTS_SHARE_TRAINING}
    return apart[protocol.five_shot]


def _check_layers(cell: Cell, layers: Iterable[Sourced], shot_is_the_grids: bool) -> None:
    """Raises InputError if a layer sets a seed or a shot that it cannot set, or if the entry of a
    method without training sets a training."""
    votes = cell.card.SHOT_FUSION == "vote"
    for _, layer in layers:
        if "seed" in layer:
            raise InputError(
                f"{cell.label}: training.seed cannot be set here. Set grid.seed, as in [0, 1]."
            )
        if "shot" in layer and (votes or shot_is_the_grids):
            why = "the method trains on one support" if votes else "each grid.shot is trained apart"
            raise InputError(f"{cell.label}: training.shot cannot be set: {why}. Leave it out.")
    of_entry = (cell.entry.training, *(layer.method.training for layer in cell.layers))
    if not cell.card.TRAINED and any(of_entry):
        raise InputError(
            f"{cell.label}: grid.method[{cell.place}].training changes nothing, because the method "
            "is not trained. Leave it out."
        )


def _check_given_weights(cell: Cell, values: Mapping[str, Any], sources: Sources) -> None:
    """Raises InputError if --set gives a length to a training that `checkpoint` replaces."""
    for name in ("steps", "epochs"):
        if sources.get(name) == SET and values.get(name):
            raise InputError(
                f"{cell.label}: training.{name} changes nothing, because training.checkpoint names "
                "weights that exist and nothing is trained. Leave out one of the two."
            )


def _uses_seed(cell: Cell, recipe: Mapping[str, Any]) -> bool:
    """Whether a random number is drawn: by a training, or by random backbone weights.

    If not, all seeds of the grid are one trial, with seed 0.
    """
    trains = cell.card.TRAINED and not recipe.get("checkpoint")
    return trains or cell.backbone.weights == "random"


def check_cell(cell: Cell, protocol: Protocol, options: BaseModel, training: TrainingSpec) -> None:
    """Raises InputError if the method cannot work with the protocol, the ways or the batch."""
    if protocol.novel == "ignore" and not cell.card.LOSS_IGNORES_255:
        raise InputError(
            f"{cell.label}: protocol.novel: ignore would change nothing, since the method's loss "
            "counts ignored pixels as background. Set novel: exclude-image, or leave the method "
            "out."
        )
    supports = cell.shot * cell.way
    if protocol.input == "original" and supports > 1 and cell.card.SUPPORT_MAPS:
        raise InputError(
            f"{cell.label}: protocol.input: original keeps the size of every image, but this "
            f"method compares the {supports} supports of an episode at one size. Set "
            "protocol.input: pad, or leave the method or this grid.shot out."
        )
    if protocol.draw in ("walk-list", "all-queries") and cell.way > 1:
        raise InputError(
            f"{cell.label}: protocol.draw: {protocol.draw} has one class per episode, and grid.way "
            f"is {cell.way}. Set protocol.draw: even, or grid.way: [1]."
        )
    ways = cell.card.ways_of(options)
    if ways not in (None, cell.way):
        raise InputError(
            f"{cell.label}: grid.way is {cell.way} classes per episode; with these options the "
            f"method takes {ways}."
        )
    fewest = cell.card.fewest_episodes(options)
    for name, episodes in (("batch", training.batch), ("micro_batch", training.micro_batch)):
        if training.steps != 0 and episodes is not None and episodes < fewest:
            raise InputError(
                f"{cell.label}: training.{name} is {episodes}, but this method's BatchNorm needs "
                f"at least {fewest} episodes. Set training.{name} to {fewest} or more."
            )
