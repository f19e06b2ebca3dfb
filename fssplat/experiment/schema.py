"""The schema of the YAML: all settings, their canonical JSON, and checks with readable errors.

A spec is frozen and refuses unknown keys. `digest` of the canonical JSON names a trial, so
`not_hashed` lists the settings that cannot change a number (paths, worker counts, host names).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
    field_validator,
    model_validator,
)

from fssplat.common.errors import InputError
from fssplat.common.similar import did_you_mean
from fssplat.experiment.booleans import wrong_booleans

DATASETS = ("pascal-5i", "coco-20i", "fss-1000", "synthetic")
NO_TRACKING = "none"  # as `tracking:`; results are in the store alone
SCALARS = {str, int, float, bool, type(None)}
S = TypeVar("S", bound=BaseModel)
Share = Annotated[float, Field(ge=0, le=1)]
# Upper limits: far above every sensible value, so that a typing error is refused before anything
# starts, and not by a lack of memory in a worker.
Steps = Annotated[int, Field(ge=0, le=1_000_000_000)]
Epochs = Annotated[int, Field(gt=0, le=1_000_000)]
Batch = Annotated[int, Field(gt=0, le=65_536)]
Shot = Annotated[int, Field(gt=0, le=1_000)]
Way = Annotated[int, Field(gt=0, le=1_000)]
Pixels = Annotated[int, Field(gt=0, le=16_384)]  # side of a square input
Area = Annotated[int, Field(ge=0, le=2**31)]  # pixels of an image
Seed = Annotated[int, Field(ge=0, lt=2**63)]
DrawSeed = Annotated[int, Field(ge=0, lt=2**32)]  # numpy's legacy generator takes no more
Episodes = Annotated[int, Field(gt=0, le=10_000_000)]
Count = Annotated[int, Field(gt=0, le=100_000)]
Workers = Annotated[int, Field(ge=0, le=1_024)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
FOLDS = {"pascal-5i": 4, "coco-20i": 4, "fss-1000": 1, "synthetic": 4}


class Spec(BaseModel):
    """Base of every setting: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    not_hashed: ClassVar[frozenset[str]] = frozenset()

    def canonical(self) -> dict[str, Any]:
        """The fields that can change a number, as plain JSON values."""
        return {name: plain(getattr(self, name)) for name in _hashed(type(self))}


@cache  # a plan of ten thousand trials asks for it a million times
def _hashed(kind: type[Spec]) -> tuple[str, ...]:
    return tuple(name for name in sorted(kind.model_fields) if name not in kind.not_hashed)


def plain(value: Any) -> Any:
    """A spec, tuple or mapping as JSON values, with hashed fields only."""
    if type(value) in SCALARS:
        return value
    if isinstance(value, Spec):
        return value.canonical()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def digest(*parts: Any, length: int = 16) -> str:
    """SHA-256 of the parts' canonical JSON, as its first `length` hex digits."""
    text = json.dumps([plain(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


class DatasetSpec(Spec):
    """A data set by name. Its fingerprint is part of a trial's identity, its folder is not."""

    not_hashed = frozenset({"root"})
    name: str  # the same as its key
    root: str = ""  # folder or s3:// address of shards and index; empty: $FSSPLAT_DATA/<name>


class BackboneSpec(Spec):
    """The feature extractor."""

    name: str  # the same as its key
    weights: str = "auto"  # auto (its public ImageNet file), random, or a path

    @property
    def source(self) -> str:
        """Key of the weights' fingerprint; a result is named after their content."""
        return f"{self.name}={self.weights}"


class AugmentSpec(Spec):
    """Random changes of a training image, drawn anew for the query and for every support."""

    # How the training size is reached. A crop of a small image has mean colour on all sides, a
    # corner-crop black at the right and below.
    resize: Literal["crop", "corner-crop", "squash", "pad"] = "crop"
    scale: tuple[Positive, Positive] = (1.0, 1.0)  # one factor for both axes
    rotate: NonNegative = 0.0  # degrees either way, with probability 0.5
    blur: bool = False  # 5 x 5 Gaussian with probability 0.5
    flip: bool = False  # horizontal, with probability 0.5
    keep_object: Share = 0.0  # share of the object a crop must keep; redrawn up to 31 times


class TrainingSpec(Spec):
    """One training run. Exactly one of `steps` and `epochs` says how long."""

    not_hashed = frozenset({"checkpoint"})  # its content is hashed instead
    checkpoint: str = ""  # a head.safetensors to score in place of training; its steps are then 0
    steps: Steps | None = None  # optimiser steps, whatever the batch; 0: nothing to train
    epochs: Epochs | None = None  # passes over the training list
    batch: Batch = 4  # episodes per optimiser step
    micro_batch: Batch | None = None  # episodes per backward pass; None: the whole batch
    shot: Shot = 1  # supports per training episode
    size: Pixels = 473  # side of the square input, pixels
    optimizer: Literal["sgd", "adam"] = "sgd"  # `momentum.sgd` is the momentum of sgd
    lr: Positive = 2.5e-3  # learning rate at the first step
    weight_decay: NonNegative = 0.0  # factor of the L2 penalty
    schedule: Literal["poly", "step", "constant"] = "constant"  # of the learning rate
    power: Positive = 0.9  # of the poly schedule
    milestones: tuple[Share, ...] = ()  # of the step schedule, as shares of the run
    gamma: Positive = 0.1  # factor of the step schedule at each milestone
    clip: Positive | None = None  # largest L2 norm of all gradients together
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast, weights stay float32
    augment: AugmentSpec = AugmentSpec()
    seed: Seed = 0  # training seed; set by the grid

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self


def replaced_length(above: Mapping[str, Any]) -> str:
    """The length that a layer of training settings removes from the layers below it.

    A layer that gives `steps` alone removes `epochs`, and the reverse; "" if it removes none.
    """
    given = [name for name in ("steps", "epochs") if above.get(name) is not None]
    other = {"steps": "epochs", "epochs": "steps"}[given[0]] if len(given) == 1 else ""
    return "" if other in above else other


def merged(base: Mapping[str, Any], *layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers on top of `base`, nested mappings merged; steps and epochs replace each other."""
    result = dict(base)
    for layer in layers:
        result.pop(replaced_length(layer), None)
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


class MethodSpec(Spec):
    """A method with every switch resolved. `variant` is its name in tables, not in the hash."""

    not_hashed = frozenset({"variant"})
    name: str
    variant: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    loss_weights: dict[str, float] = Field(default_factory=dict)
    momentum: dict[str, float] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name}:{self.variant}" if self.variant else self.name

    @property
    def sgd_momentum(self) -> float:
        """Momentum of SGD; 0 for a method without an `sgd` term, since its paper uses Adam."""
        return self.momentum.get("sgd", 0.0)


class MethodEntry(Spec):
    """A method as an experiment file names it: `pfenet`, or a mapping that changes switches."""

    name: str  # such as pfenet, or module:Class
    variant: str = ""  # its name in tables; needed if two entries have the same method
    preset: str = ""  # a named set of switches of the method, such as public-code
    options: dict[str, Any] = Field(default_factory=dict)  # switches of the method
    loss_weights: dict[str, float] = Field(default_factory=dict)  # factor of each loss, by name
    momentum: dict[str, float] = Field(default_factory=dict)  # `sgd`, and moving averages by name
    training: dict[str, Any] = Field(default_factory=dict)  # changes for this entry

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class GridSpec(Spec):
    """The axes; every combination is a trial unless `exclude` names it."""

    dataset: tuple[str, ...] = ()  # data sets to score on
    fold: tuple[NonNegativeInt, ...] = (0,)  # which part of the classes is novel
    shot: tuple[Shot, ...] = (1,)  # support images per class of an episode
    way: tuple[Way, ...] = (1,)  # classes per episode
    method: tuple[MethodEntry, ...]  # names, or mappings that change switches
    backbone: tuple[str, ...] = ("resnet50",)  # such as resnet101, vgg16, timm:<name>
    seed: tuple[Seed, ...] = (0,)  # training seeds


class Override(Spec):
    """Settings for the cells that match `where`, e.g. one method on one data set."""

    where: dict[str, Any]  # axis -> value or list of values
    training: dict[str, Any] = Field(default_factory=dict)  # changes for these cells
    options: dict[str, Any] = Field(default_factory=dict)  # switches of the method, for them too


class MethodChanges(Spec):
    """What a layer changes in one entry of `grid.method`."""

    options: dict[str, Any] = Field(default_factory=dict)  # switches of the method
    loss_weights: dict[str, float] = Field(default_factory=dict)  # factor of each loss, by name
    momentum: dict[str, float] = Field(default_factory=dict)  # `sgd`, and moving averages by name
    training: dict[str, Any] = Field(default_factory=dict)  # changes for this entry


class Layer(Spec):
    """Settings that win over `grid.method`: of a profile or of --set."""

    source: str  # such as `profile smoke` or `--set`
    training: dict[str, Any] = Field(default_factory=dict)  # changes to every method
    overrides: tuple[Override, ...] = ()  # changes for some cells; win over `training` above
    # changes to the entries of `grid.method`, by place from 0; win over both
    methods: dict[NonNegativeInt, MethodChanges] = Field(default_factory=dict)


class ResourceSpec(Spec):
    """What Ray reserves for one job; changes no number."""

    cpu: Annotated[float, Field(gt=0, le=4_096)] = 1.0  # cores, and threads of PyTorch
    gpu: Annotated[float, Field(ge=0, le=4_096)] | Literal["auto"] = (
        "auto"  # 0, a share in (0, 1], an integer, or auto
    )
    max_concurrent: Count | None = None  # jobs at once; None: as many as fit


class MlflowSpec(Spec):
    """What MLflow gets beside metrics, parameters and files; changes no number."""

    models: bool = True  # each finished training as a model that loads back and predicts
    system_metrics: bool = True  # memory, CPU and GPU use of each running job


class ExperimentSpec(Spec):
    """One experiment file, after `extends`, the profile and `--set` are applied."""

    name: str  # of the experiment, in tables and MLflow
    claim: str = ""  # one sentence for readers
    dataset: str = ""  # shorthand for grid.dataset with one entry
    train_on: str = ""  # another data set to train on (domain shift); empty: the evaluated one
    datasets: dict[str, DatasetSpec] = Field(default_factory=dict)  # data sets that are elsewhere
    backbones: dict[str, BackboneSpec] = Field(default_factory=dict)  # weights other than auto
    protocol: dict[str, Any] | str = "fssplat"  # a preset's name, or {name: ..., changed axes}
    grid: GridSpec
    exclude: tuple[dict[str, Any], ...] = ()  # cells to leave out: axis -> value or list
    overrides: tuple[Override, ...] = ()  # changes for some cells, in this order
    training: dict[str, Any] = Field(default_factory=dict)  # changes to the recipe of every method
    # written by fssplat: what a profile and --set gave; a later layer wins over an earlier one
    layers: tuple[Layer, ...] = ()
    search: dict[str, Any] = Field(default_factory=dict)  # for `fssplat search` alone
    evaluation: "EvaluationSpec" = Field(default_factory=lambda: EvaluationSpec())
    resources: ResourceSpec = ResourceSpec()
    costs: bool = False  # also print a table of parameters, times and memory after a launch
    store: str = "results"  # folder or s3:// address
    tracking: str = ""  # MLflow address; empty: MLFLOW_TRACKING_URI, else SQLite in the store
    mlflow: MlflowSpec = MlflowSpec()

    @field_validator("datasets", "backbones")
    @classmethod
    def _names_agree(cls, given: dict[str, Any]) -> dict[str, Any]:
        for key, spec in given.items():
            if spec.name != key:
                raise ValueError(f"{key} is named {spec.name}; both must be the same")
        return given

    @field_validator("datasets")
    @classmethod
    def _known(cls, given: dict[str, DatasetSpec]) -> dict[str, DatasetSpec]:
        for key in given:
            if key not in DATASETS:
                hint = did_you_mean(key, DATASETS)
                raise ValueError(
                    f"{key} is unknown, known are {', '.join(DATASETS)}. {hint}".rstrip(". ")
                )
        return given


class EvaluationSpec(Spec):
    """How an evaluation runs on this machine. Only precision can change a number."""

    not_hashed = frozenset({"batch", "cache_gb", "workers", "panels"})
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast, weights stay float32
    batch: Batch = 8  # episodes segmented at once
    cache_gb: Annotated[float, Field(ge=0, le=100_000)] = (
        2.0  # GiB for encoded images, on the device
    )
    workers: Workers = 0  # threads that decode; in training, processes that load
    panels: Annotated[int, Field(ge=0, le=100_000)] = 3  # qualitative pictures kept per trial


ExperimentSpec.model_rebuild()


# ------------------------------------------------------------------ checking


def validate(
    model: type[S], value: Any, where: str, under: str = "", also: Sequence[str] = ()
) -> S:
    """`model` from plain values. Raises InputError: one line with all problems and their keys.

    `under` is the prefix of the values' keys in the file, e.g. `training.`. `also` are settings of
    other sections that a misspelled key may stand for.
    """
    for place, given in wrong_booleans(model, value):
        key = under + dotted(place)
        raise InputError(f"{where}: {key} is {str(given).lower()}, but it is no yes-or-no setting.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [_problem(model, item, under, also) for item in error.errors()]
        raise InputError(f"{where}: " + "; ".join(dict.fromkeys(problems))) from error


def _problem(model: type[BaseModel], item: Any, under: str, also: Sequence[str]) -> str:
    """One pydantic problem as `key is not a setting. Did you mean other?` or `key: what`."""
    place = [part for part in item["loc"] if not str(part).startswith(("function-", "literal"))]
    key = (under + dotted(place)) if place else under.rstrip(".") or "the whole"
    if item["type"] == "extra_forbidden":
        return f"{key} is not a setting. {_hint(key, settings(model, under), also)}"
    if item["type"] == "missing":
        return f"{key} is missing"
    given = repr(item.get("input"))
    if item["type"] in ("tuple_type", "list_type"):
        return f"{key}: needs a list, as in [{given[:60]}]"
    return f"{key}: {item['msg'].removeprefix('Value error, ')} (got {given[:60]})"


def dotted(place: Sequence[str | int]) -> str:
    """`grid.method[1].training` for the keys and list indices of a setting."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _hint(key: str, known: list[str], also: Sequence[str]) -> str:
    """What an unknown key may stand for, or else the known ones; an index of the key is kept."""
    head, index, _ = key.rpartition("].")
    section = re.sub(r"\[\d+\]", "", head + "]") if index else ""
    if section:  # an entry of a list, which may have a `training` of its own
        prefix = f"{section}."
        inside = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
        inner = [name for name in also if name.split(".")[0] in inside]
        known = [head + index + name for name in [*inside, *inner]]
    hint = did_you_mean(key, known) if section else ""
    hint = hint or did_you_mean(key, [*known, *also])
    return hint or f"Known: {', '.join(_siblings(known, key)) or 'none'}."


def _siblings(known: list[str], key: str) -> list[str]:
    prefix = key.rpartition(".")[0]
    return [name for name in known if name.rpartition(".")[0] == prefix] or known


def settings(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of every setting of a spec, nested ones included, except `layers`."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        if field.annotation == tuple[Layer, ...]:
            continue  # fssplat writes it
        names.append(prefix + name)
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                names += settings(inner, f"{prefix}{name}.")
    return names
