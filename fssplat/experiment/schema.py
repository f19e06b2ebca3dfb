"""The YAML's schema: everything that can change a number, and the bytes that name it.

A spec is frozen, knows no extra keys, and has one canonical JSON form; `digest` of that form is
what a trial is called. Anything that cannot change a number (paths, worker counts, host names) is
kept out of the canonical form by `not_hashed`.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from fssplat.common.errors import InputError

DATASETS = ("pascal-5i", "coco-20i", "fss-1000", "synthetic")
NO_TRACKING = "none"  # as `tracking:`; results are in the store alone
SCALARS = {str, int, float, bool, type(None)}
S = TypeVar("S", bound=BaseModel)
Share = Annotated[float, Field(ge=0, le=1)]
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
    """Hex name of the parts: SHA-256 of their canonical JSON, cut to `length` characters."""
    text = json.dumps([plain(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


class DatasetSpec(Spec):
    """A data set by name; where it lies does not change a number, its fingerprint does."""

    not_hashed = frozenset({"root"})
    name: str  # the same as its key
    root: str = ""  # folder or s3:// address of shards and index; empty: $FSSPLAT_DATA/<name>


class BackboneSpec(Spec):
    """The feature extractor."""

    name: str  # the same as its key
    weights: str = "auto"  # auto (its public ImageNet file), random, or a path

    @property
    def source(self) -> str:
        """Where the weights are asked for; their content is what names a result."""
        return f"{self.name}={self.weights}"


class AugmentSpec(Spec):
    """Random changes of a training image, drawn anew for the query and for every support."""

    # How the training size is reached. A crop of a small image has mean colour on all sides, a
    # corner-crop black at the right and below.
    resize: Literal["crop", "corner-crop", "squash", "pad"] = "crop"
    scale: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)  # one factor for both axes
    rotate: NonNegativeFloat = 0.0  # degrees either way, with probability 0.5
    blur: bool = False  # 5 x 5 Gaussian with probability 0.5
    flip: bool = False  # horizontal, with probability 0.5
    keep_object: Share = 0.0  # share of the object a crop must keep; redrawn up to 31 times


class TrainingSpec(Spec):
    """One training run. Exactly one of `steps` and `epochs` says how long."""

    not_hashed = frozenset({"checkpoint"})  # what it holds is hashed
    checkpoint: str = ""  # a head.safetensors to score in place of training; its steps are then 0
    steps: NonNegativeInt | None = None  # optimiser steps, whatever the batch; 0: nothing to train
    epochs: PositiveInt | None = None  # passes over the training list
    batch: PositiveInt = 4  # episodes per optimiser step
    micro_batch: PositiveInt | None = None  # episodes per backward pass; None: the whole batch
    shot: PositiveInt = 1  # supports per training episode
    size: PositiveInt = 473  # side of the square input, pixels
    optimizer: Literal["sgd", "adam"] = "sgd"  # `momentum.sgd` is the momentum of sgd
    lr: PositiveFloat = 2.5e-3  # learning rate at the first step
    weight_decay: NonNegativeFloat = 0.0  # factor of the L2 penalty
    schedule: Literal["poly", "step", "constant"] = "constant"  # of the learning rate
    power: PositiveFloat = 0.9  # of the poly schedule
    milestones: tuple[Share, ...] = ()  # of the step schedule, as shares of the run
    gamma: PositiveFloat = 0.1  # factor of the step schedule at each milestone
    clip: PositiveFloat | None = None  # largest L2 norm of all gradients together
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast, weights stay float32
    augment: AugmentSpec = AugmentSpec()
    seed: NonNegativeInt = 0  # training seed; set by the grid

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self


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
    shot: tuple[PositiveInt, ...] = (1,)  # support images per class of an episode
    way: tuple[PositiveInt, ...] = (1,)  # classes per episode
    method: tuple[MethodEntry, ...]  # names, or mappings that change switches
    backbone: tuple[str, ...] = ("resnet50",)  # such as resnet101, vgg16, timm:<name>
    seed: tuple[NonNegativeInt, ...] = (0,)  # training seeds


class Override(Spec):
    """Settings for the cells that match `where`, e.g. one method on one data set."""

    where: dict[str, Any]  # axis -> value or list of values
    training: dict[str, Any] = Field(default_factory=dict)  # changes for these cells
    options: dict[str, Any] = Field(default_factory=dict)  # switches of the method, for them too


class ResourceSpec(Spec):
    """What Ray reserves for one job; changes no number."""

    cpu: PositiveFloat = 1.0  # cores, and threads of PyTorch
    gpu: NonNegativeFloat | Literal["auto"] = "auto"  # 0, a share in (0, 1], an integer, or auto
    max_concurrent: PositiveInt | None = None  # jobs at once; None: as many as fit


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
    search: dict[str, Any] = Field(default_factory=dict)  # for `fssplat search` alone
    evaluation: "EvaluationSpec" = Field(default_factory=lambda: EvaluationSpec())
    resources: ResourceSpec = ResourceSpec()
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
                raise ValueError(f"{key} is unknown, known are {', '.join(DATASETS)}")
        return given


class EvaluationSpec(Spec):
    """How an evaluation runs on this machine. Only precision can change a number."""

    not_hashed = frozenset({"batch", "cache_gb", "workers", "panels"})
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast, weights stay float32
    batch: PositiveInt = 8  # episodes segmented at once
    cache_gb: NonNegativeFloat = 2.0  # GiB for encoded images, on the device
    workers: NonNegativeInt = 0  # threads that decode; in training, processes that load
    panels: NonNegativeInt = 3  # qualitative pictures kept per trial


ExperimentSpec.model_rebuild()


# ------------------------------------------------------------------ reading


def load_experiment(path: Path | str, changes: tuple[str, ...] = ()) -> ExperimentSpec:
    """Read an experiment file: `extends` first, then its own keys, its profile, and `--set a.b=c`.

    Raises InputError naming the file and the key, with the nearest known key for a typo.
    """
    path = Path(path)
    merged = read_layers(path, changes)
    merged.setdefault("name", path.stem)
    return validate(ExperimentSpec, merged, str(path))


def made_experiment(
    keys: Mapping[str, Any], base: Path | None, changes: tuple[str, ...] = ()
) -> ExperimentSpec:
    """An experiment from a mapping, as if it stood in a file that extends `base`.

    Raises InputError as `load_experiment`.
    """
    below = _with_bases(base, ()) if base is not None else {}
    where = str(keys["name"])
    merged = _layered(_over(below, dict(keys)), changes, where)
    return validate(ExperimentSpec, merged, where)


def read_layers(path: Path, changes: tuple[str, ...] = ()) -> dict[str, Any]:
    """The file's mapping with `extends`, `profile` and changes merged in, `${...}` resolved."""
    return _layered(_with_bases(path, ()), changes, str(path))


def _layered(config: Any, changes: tuple[str, ...], where: str) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    chosen: Any = OmegaConf.create({})
    for change in changes:
        config, chosen = (_changed(part, change) for part in (config, chosen))
    try:
        profiles = config.pop("profiles", {}) or {}
        profile = config.pop("profile", None)
        if not isinstance(profiles, Mapping):
            raise InputError(f"{where}: profiles: {profiles} is no mapping of names to settings.")
        if profile is not None:
            if profile not in profiles:
                known = ", ".join(map(str, profiles)) or "none"
                raise InputError(f"{where}: profile {profile!r} is unknown. Known: {known}.")
            for key in ("profile", "profiles"):
                chosen.pop(key, None)
            inside = profiles[profile] or {}
            if not isinstance(inside, Mapping):
                raise InputError(
                    f"{where}: profiles.{profile}: {inside} is no mapping of settings, "
                    "e.g. {training: {steps: 100}}."
                )
            config = _over(_over(config, inside), chosen)
        plain_config = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{where}: {first}") from error
    assert isinstance(plain_config, dict)
    return {str(key): value for key, value in plain_config.items()}


def _changed(config: Any, change: str) -> Any:
    """The config with one `key=value` on top. Raises InputError for what cannot be read or put."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    key, _, value = change.partition("=")
    if "=" not in change:
        raise InputError(f"--set {change}: write key=value, e.g. --set training.steps=100.")
    try:
        return _over(config, OmegaConf.from_dotlist([change]))
    except yaml.YAMLError as error:
        raise InputError(f"--set {change}: {value} is not YAML. Close every bracket.") from error
    except (OmegaConfBaseException, TypeError, IndexError) as error:  # the last for a lone `[`
        raise InputError(
            f"--set {change}: {key} cannot be set so. Name settings by their keys, as in "
            "training.steps=100; give a list whole, as in 'grid.fold=[0, 1]'."
        ) from error


def _with_bases(path: Path, seen: tuple[Path, ...]) -> Any:
    import yaml
    from omegaconf import DictConfig, OmegaConf

    if path.resolve() in seen:
        chain = " -> ".join(item.name for item in (*seen, path))
        raise InputError(f"{path}: extends itself ({chain}). Remove one `extends`.")
    if not path.is_file():
        raise InputError(f"{path}: no such experiment file. See experiments/ for examples.")
    try:
        config = OmegaConf.load(path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise InputError(f"{path}:{where} {problem}. Fix the YAML there.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file. An experiment is a YAML mapping.") from error
    if not isinstance(config, DictConfig):
        raise InputError(
            f"{path}: an experiment is a mapping of settings, e.g. `dataset: synthetic`."
        )
    if isinstance(config.get("protocol"), str):  # so that a profile changes axes, not the preset
        config["protocol"] = {"name": config["protocol"]}
    base = config.pop("extends", None)
    if base is None:
        return config
    below = _with_bases(path.parent / str(base), (*seen, path.resolve()))
    below.pop("name", None)
    return _over(below, config)


def _over(below: Any, above: Any) -> Any:
    """`above` on top of `below`; a training has one length, so steps take the place of epochs."""
    from omegaconf import OmegaConf

    config = OmegaConf.merge(below, above)
    _keep_one_length(config, OmegaConf.to_container(OmegaConf.create(above)))
    return config


def _keep_one_length(config: Any, above: Any) -> None:
    for name, other in (("steps", "epochs"), ("epochs", "steps")):
        if above.get(name) is not None and other not in above:
            config.pop(other, None)
    for key, part in above.items():
        if isinstance(part, dict):
            _keep_one_length(config[key], part)


def validate(model: type[S], value: Any, where: str, under: str = "") -> S:
    """`model` from plain values; every problem in one InputError line that names its key.

    `under` is where the values stand in the file, e.g. `training.`.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [_problem(model, item, under) for item in error.errors()]
        raise InputError(f"{where}: " + "; ".join(dict.fromkeys(problems))) from error


def _problem(model: type[BaseModel], item: Any, under: str) -> str:
    """One pydantic problem as `key is not a setting. Did you mean other?` or `key: what`."""
    place = [
        str(part) for part in item["loc"] if not str(part).startswith(("function-", "literal"))
    ]
    key = under + ".".join(place) if place else under.rstrip(".") or "the whole"
    if item["type"] == "extra_forbidden":
        known = settings(model, under)
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(_siblings(known, key))}."
        return f"{key} is not a setting. {hint}"
    if item["type"] == "missing":
        return f"{key} is missing"
    given = repr(item.get("input"))
    if item["type"] in ("tuple_type", "list_type"):
        return f"{key}: needs a list, as in [{given[:60]}]"
    return f"{key}: {item['msg'].removeprefix('Value error, ')} (got {given[:60]})"


def _siblings(known: list[str], key: str) -> list[str]:
    prefix = key.rpartition(".")[0]
    return [name for name in known if name.rpartition(".")[0] == prefix] or known


def settings(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of every setting of a spec, nested ones included."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        names.append(prefix + name)
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                names += settings(inner, f"{prefix}{name}.")
    return names
