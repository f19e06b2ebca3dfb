"""The schema of the YAML: all settings, and their canonical JSON.

A spec is frozen and refuses unknown keys. `digest` of the canonical JSON names a trial, so
`not_hashed` lists the settings that cannot change a number (paths, worker counts, host names).
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator, model_validator

from fssplat.experiment.datasets import valid_name

NO_TRACKING = "none"  # as `tracking:`; results are in the store alone
SCALARS = {str, int, float, bool, type(None)}
Share = Annotated[float, Field(ge=0, le=1)]
# Upper limits: far above every sensible value, so that a typing error is refused before anything
# starts, and not by a lack of memory in a worker.
Steps = Annotated[int, Field(ge=0, le=1_000_000_000)]
Epochs = Annotated[int, Field(gt=0, le=1_000_000)]
Batch = Annotated[int, Field(gt=0, le=65_536)]
Shot = Annotated[int, Field(gt=0, le=1_000)]
Way = Annotated[int, Field(gt=0, le=1_000)]
Pixels = Annotated[int, Field(ge=8, le=16_384)]  # side of a square input
Area = Annotated[int, Field(ge=0, le=2**31)]  # pixels of an image
Seed = Annotated[int, Field(ge=0, lt=2**63)]
DrawSeed = Annotated[int, Field(ge=0, lt=2**32)]  # numpy's legacy generator takes no more
Episodes = Annotated[int, Field(gt=0, le=10_000_000)]
Count = Annotated[int, Field(gt=0, le=100_000)]
Workers = Annotated[int, Field(ge=0, le=1_024)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Degrees = Annotated[float, Field(ge=0, le=180)]
LossWeights = dict[str, NonNegative]  # by the name of the loss
Momenta = dict[str, Annotated[float, Field(ge=0, lt=1)]]  # by the name of the term
Filled = Annotated[str, Field(min_length=1)]


class Spec(BaseModel):
    """Base of every setting: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    not_hashed: ClassVar[frozenset[str]] = frozenset()
    not_for_users: ClassVar[frozenset[str]] = frozenset()  # settings that fssplat writes

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
    rotate: Degrees = 0.0  # degrees either way, with probability 0.5
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
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule step needs milestones, as in [0.5, 0.75]")
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
    loss_weights: LossWeights = Field(default_factory=dict)
    momentum: Momenta = Field(default_factory=dict)

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
    loss_weights: LossWeights = Field(default_factory=dict)  # factor of each loss, by name
    momentum: Momenta = Field(default_factory=dict)  # `sgd`, and moving averages by name
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
    loss_weights: LossWeights = Field(default_factory=dict)  # factor of each loss, by name
    momentum: Momenta = Field(default_factory=dict)  # `sgd`, and moving averages by name
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

    not_for_users = frozenset({"layers"})
    name: Filled  # of the experiment, in tables and MLflow
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
    store: Filled = "results"  # folder or s3:// address
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
    def _valid_names(cls, given: dict[str, DatasetSpec]) -> dict[str, DatasetSpec]:
        for key in given:
            if not valid_name(key):
                raise ValueError(f"{key!a} cannot name a data set: letters, digits, . _ and - can")
        return given


class EvaluationSpec(Spec):
    """How an evaluation runs on this machine. Only precision can change a number."""

    not_hashed = frozenset({"batch", "cache_gb", "workers", "panels", "keep"})
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast, weights stay float32
    batch: Batch = 8  # episodes segmented at once
    cache_gb: Annotated[float, Field(ge=0, le=100_000)] = (
        2.0  # GiB for encoded images, on the device
    )
    workers: Workers = 0  # threads that decode; in training, processes that load
    panels: Annotated[int, Field(ge=0, le=100_000)] = 3  # qualitative pictures kept per trial
    # predicted masks kept per trial: of all episodes, of those with a picture, or none
    keep: Literal["all", "panels", "none"] = "all"


ExperimentSpec.model_rebuild()


class CombinedExperiment(ExperimentSpec):
    """Several experiments as one: its trials are those of the parts, not those of its grid.

    Made by fssplat, not by a file. Its grid lists what any of the parts has.
    """

    parts: tuple[ExperimentSpec, ...]
