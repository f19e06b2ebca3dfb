"""The settings of one cell, merged from layers; a later layer replaces an earlier one.

options       the method's defaults, those for the data set, preset, grid.method, overrides
training      the paper's recipe, preset, its `training_on`, `training`, overrides, grid.method
loss_weights, momentum    the paper's, preset, grid.method
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from fssplat.common.errors import InputError
from fssplat.experiment.card import MethodCard
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import (
    BackboneSpec,
    MethodEntry,
    MethodSpec,
    Override,
    TrainingSpec,
    replaced_length,
    validate,
)


@dataclass(frozen=True)
class Cell:
    """One combination of the axes, with what the experiment says about it."""

    entry: MethodEntry
    card: MethodCard
    backbone: BackboneSpec
    train_on: str  # data set that is trained on
    shot: int
    way: int
    seed: int
    overrides: tuple[Override, ...]  # those that match the cell, in the file's order
    label: str  # experiment and method, for messages

    @property
    def preset(self) -> Mapping[str, Any]:
        """The settings of the named preset; empty without one. Raises InputError."""
        name = self.entry.preset
        if not name:
            return {}
        if name not in self.card.PRESETS:
            known = ", ".join(self.card.PRESETS) or "none"
            raise InputError(f"{self.label} has no preset {name!r}. Known: {known}.")
        return self.card.PRESETS[name]


def options_of(cell: Cell) -> BaseModel:
    """The method's options. Raises InputError for an unknown option or a wrong value."""
    options = dict(cell.card.options_for(cell.train_on))
    options.update(cell.preset.get("options", {}))
    options.update(cell.entry.options)
    for override in cell.overrides:
        options.update(override.options)
    return validate(cell.card.Options, options, cell.label, "options.")


def method_of(cell: Cell, options: BaseModel) -> MethodSpec:
    """The method with all options, loss weights and momentum terms."""
    return MethodSpec(
        name=cell.entry.name,
        variant=cell.entry.variant or cell.entry.preset,
        options=options.model_dump(mode="json"),
        loss_weights=_terms(cell, "loss_weights", cell.card.LOSS_WEIGHTS),
        momentum=_terms(cell, "momentum", cell.card.MOMENTUM),
    )


def _terms(
    cell: Cell, kind: Literal["loss_weights", "momentum"], default: Mapping[str, float]
) -> dict[str, float]:
    """Weights by term. Raises InputError for a term that the method does not have."""
    changed = {**cell.preset.get(kind, {}), **getattr(cell.entry, kind)}
    for name in changed:
        if name not in default:
            known = ", ".join(default) or "none"
            raise InputError(
                f"{cell.label}: {kind}.{name} is not a term of the method. Known: {known}."
            )
    return {**default, **changed}


def training_of(cell: Cell, experiment: Mapping[str, Any], protocol: Protocol) -> TrainingSpec:
    """The training with its shot and its seed; `experiment` are the file's training settings.

    Raises InputError for an unknown setting, a wrong value, or one that the grid decides.
    """
    layers = [experiment, *(one.training for one in cell.overrides), cell.entry.training]
    shot_is_the_grids = _trained_per_shot(cell.card, protocol)
    _check_layers(cell, layers, shot_is_the_grids)
    preset = cell.preset
    recipe = merged(
        cell.card.recipe(cell.train_on, cell.backbone.name),
        preset.get("training", {}),
        preset.get("training_on", {}).get(cell.train_on, {}),
    )
    if cell.card.TRAINED:
        recipe = merged(recipe, *layers)
        if shot_is_the_grids:
            recipe["shot"] = cell.shot
    if recipe.get("checkpoint"):
        recipe = merged(recipe, {"steps": 0})
    recipe["seed"] = cell.seed if _uses_seed(cell, recipe) else 0
    return validate(TrainingSpec, recipe, cell.label, "training.")


def _trained_per_shot(card: MethodCard, protocol: Protocol) -> bool:
    """Whether each shot of the grid has a training of its own.

    A method that lets shots vote trains on one support, whatever the grid's shot is.
    """
    if card.SHOT_FUSION == "vote":
        return False
    apart = {"apart": True, "reuse": False, "method": not card.SHOTS_SHARE_TRAINING}
    return apart[protocol.five_shot]


def _check_layers(cell: Cell, layers: Iterable[Mapping[str, Any]], shot_is_the_grids: bool) -> None:
    """Raises InputError if a layer sets a seed or a shot that it cannot set."""
    votes = cell.card.SHOT_FUSION == "vote"
    for layer in layers:
        if "seed" in layer:
            raise InputError(
                f"{cell.label}: training.seed cannot be set here. Set grid.seed, as in [0, 1]."
            )
        if "shot" in layer and (votes or shot_is_the_grids):
            why = "the method trains on one support" if votes else "each grid.shot is trained apart"
            raise InputError(f"{cell.label}: training.shot cannot be set: {why}. Leave it out.")


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


def merged(base: Mapping[str, Any], *layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers on top of `base`, nested mappings merged; steps and epochs replace each other."""
    result = dict(base)
    for layer in layers:
        result.pop(replaced_length(layer), None)
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result
