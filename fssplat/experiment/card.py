"""What a method declares about itself, so that a grid can be expanded without torch.

Every class in `fssplat.methods.METHODS` satisfies `MethodCard`.
"""
# ruff: noqa: N802 - the properties have the names of the methods' class variables

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from fssplat.common.errors import InputError
from fssplat.common.similar import known


class MethodCard(Protocol):
    """The facts about a method that the grid needs; the method's class itself has them."""

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
        """True: a K-shot trial uses the 1-shot weights."""
        ...

    @property
    def SCORING_OPTIONS(self) -> frozenset[str]:
        """Options that only scoring reads: trials that differ only in these share weights."""
        ...

    @property
    def LATER_OPTIONS(self) -> frozenset[str]:
        """Options that are no part of a trial's id while they have their default."""
        ...

    @property
    def SHOT_FUSION(self) -> Literal["network", "vote", "mean-mask"]:
        """How shots are combined; a method that lets them vote trains on one support."""
        ...

    @property
    def SUPPORT_MAPS(self) -> bool:
        """True: the supports of an episode need one size, see `protocol.input`."""
        ...

    @property
    def LOSS_IGNORES_255(self) -> bool:
        """False: a pixel of 255 is background in the loss."""
        ...

    def recipe(self, dataset: str, backbone: str) -> Mapping[str, Any]:
        """TrainingSpec fields as the paper (or its code) trains on this data set."""
        ...

    def options_for(self, dataset: str) -> Mapping[str, Any]:
        """Options that the paper changes on this data set."""
        ...

    def fewest_episodes(self, options: Any) -> int:
        """Smallest number of episodes in a training pass."""
        ...

    def ways_of(self, options: Any) -> int | None:
        """Classes per episode that a network with these options takes; None: any number."""
        ...


def find_card(methods: Mapping[str, MethodCard], name: str, where: str) -> MethodCard:
    """The card of a method. Raises InputError if there is no method of that name."""
    if name not in methods:
        raise InputError(f"{where}: method {name!r} is unknown. {known(name, methods)}")
    return methods[name]
