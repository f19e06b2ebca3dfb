"""The settings of each trial and where each value comes from, as YAML with comments."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from fssplat.common.passwords import hidden_in
from fssplat.common.printing import counted
from fssplat.experiment.card import MethodCard
from fssplat.experiment.expand import ResolvedTrial, resolve
from fssplat.experiment.reading import Reading
from fssplat.experiment.recipe import FILE, Sources, names_in
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial

WIDTH = 80  # columns of the text
NOTE = 40  # column of the comment that names the source
DEFAULT = "default"
AXES = ("dataset", "fold", "shot", "way", "backbone", "seed")
ORDER = """\
# The comment beside a value says where it comes from. A later source wins:
# recipe of the method < file's training < overrides < method entry < profile
# < --set. A preset of the method belongs to its recipe.
"""
Shown = tuple[Any, str]  # a value and its source
Settings = dict[str, Shown]  # by dotted name


def explained(reading: Reading, methods: Mapping[str, MethodCard]) -> str:
    """The settings of all trials of an experiment, at most 80 columns wide, with their sources.

    Trials with the same settings are one group; what all groups share is printed once. Needs no
    data set. Raises InputError as `expand` does.
    """
    found = resolve(reading.experiment, methods)
    groups: dict[str, tuple[Settings, list[Trial]]] = {}
    for one in found:
        settings = _settings_of(one, reading.sources)
        groups.setdefault(repr(settings), (settings, []))[1].append(one.trial)
    parts = list(groups.values())
    shared = _shared([settings for settings, _ in parts])
    lines = [f"# {reading.experiment.name}: {counted(len(found), 'trial')}.", *ORDER.splitlines()]
    lines += ["", "experiment:", *_lines(_of_experiment(reading))]
    lines += ["", "all trials:", *_lines(shared)]
    titles: dict[str, int] = {}
    for settings, trials in parts:
        label = trials[0].method.label
        titles[label] = titles.get(label, 0) + 1
        title = label if titles[label] == 1 else f"{label} ({titles[label]})"
        own = {name: shown for name, shown in settings.items() if name not in shared}
        lines += ["", f"{_yaml(title)}:", *_lines({**_cells(trials), **own})]
    return "\n".join(lines) + "\n"


def _shared(groups: Sequence[Settings]) -> Settings:
    """The settings that have one value and one source in all groups."""
    first, *others = groups
    return {
        name: shown
        for name, shown in first.items()
        if all(other.get(name) == shown for other in others)
    }


def _cells(trials: Sequence[Trial]) -> Settings:
    """The axes of a group; the titles of its trials if they are not every combination."""
    values = [_axes(trial) for trial in trials]
    axes = {axis: list(dict.fromkeys(one[axis] for one in values)) for axis in AXES}
    complete = len(list(product(*axes.values()))) == len(trials)
    if complete:
        return {axis: (found, "") for axis, found in axes.items()}
    titles = [f"{trial.title} seed {trial.training.seed}" for trial in trials]
    return {"trials": (titles, "")}


def _axes(trial: Trial) -> dict[str, Any]:
    return {
        "dataset": trial.dataset.name,
        "fold": trial.fold,
        "shot": trial.shot,
        "way": trial.way,
        "backbone": trial.backbone.name,
        "seed": trial.training.seed,
    }


def _settings_of(one: ResolvedTrial, of_file: Sources) -> Settings:
    """The settings of a trial without its axes."""
    trial = one.trial
    method, protocol = trial.method, trial.protocol
    training = trial.training.model_dump(mode="json", exclude={"seed"})
    found: Settings = {}
    if trial.train_on != trial.dataset:
        found["train_on"] = (trial.train_on.name, of_file.get("train_on", DEFAULT))
    weights = f"backbones.{trial.backbone.name}.weights"
    found["backbone weights"] = (trial.backbone.weights, of_file.get(weights, DEFAULT))
    for section, values in (
        ("options", method.options),
        ("loss_weights", method.loss_weights),
        ("momentum", method.momentum),
        ("training", training),
    ):
        for name, value in _flat(values, section):
            source = _source(name, one.sources, DEFAULT)
            if source == FILE:
                source = f"{FILE}, {_source(name, of_file, 'file')}"
            found[name] = (value, source)
    preset = f"protocol {protocol.name}"
    for name, value in protocol.model_dump(mode="json").items():
        found[f"protocol.{name}"] = (value, _source(f"protocol.{name}", of_file, preset))
    for name, value in trial.evaluation.model_dump(mode="json").items():
        found[f"evaluation.{name}"] = (value, _source(f"evaluation.{name}", of_file, DEFAULT))
    return found


def _of_experiment(reading: Reading) -> Settings:
    """The settings of the launch that are not those of a trial."""
    experiment = reading.experiment
    values: dict[str, Any] = {
        "name": experiment.name,
        "store": experiment.store,
        "tracking": experiment.tracking,
        "resources": experiment.resources.model_dump(mode="json"),
        "mlflow": experiment.mlflow.model_dump(mode="json"),
        "datasets": {name: {"root": experiment.datasets[name].root} for name in _used(experiment)},
    }
    default = {"name": "the file's name"}
    return {
        name: (value, _source(name, reading.sources, default.get(name, DEFAULT)))
        for name, value in _flat(hidden_in(values), "")
    }


def _used(experiment: ExperimentSpec) -> list[str]:
    named = {experiment.dataset, experiment.train_on, *experiment.grid.dataset}
    return [name for name in experiment.datasets if name in named]


def _flat(values: Mapping[str, Any], section: str) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested mapping."""
    for name in names_in(values):
        value: Any = values
        for key in name.split("."):
            value = value[key]
        yield f"{section}.{name}" if section else name, value


def _source(name: str, sources: Sources, otherwise: str) -> str:
    """Where a value comes from; for a list or mapping of which a part was set, that of the part."""
    if name in sources:
        return sources[name]
    inside = [source for key, source in sources.items() if key.startswith((f"{name}.", f"{name}["))]
    return inside[-1] if inside else otherwise


# ------------------------------------------------------------------ text


def _lines(settings: Settings) -> Iterable[str]:
    """The settings as YAML under a heading: one line each, nested by section."""
    above: list[str] = []
    for name, (value, source) in settings.items():
        *sections, key = name.split(".") if "." in name else [name]
        for depth, section in enumerate(sections):
            if above[: depth + 1] != sections[: depth + 1]:
                above = sections[: depth + 1]
                yield "  " * (depth + 1) + f"{_yaml(section)}:"
        above = sections
        yield from _line("  " * (len(sections) + 1), key, value, source)


def _line(indent: str, key: str, value: Any, source: str) -> Iterator[str]:
    note = f"# {source}" if source else ""
    text = f"{indent}{_yaml(key)}: {_yaml(value)}"
    line = f"{text.ljust(NOTE - 1)} {note}".rstrip()
    if len(line) <= WIDTH:
        yield line
        return
    if note:
        yield f"{indent}{note}"
    if len(text) <= WIDTH or not isinstance(value, list):
        yield text
        return
    yield f"{indent}{_yaml(key)}:"
    yield from (f"{indent}  - {_yaml(item)}" for item in value)


def _yaml(value: Any) -> str:
    """A value on one line of YAML; control characters are escaped."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()
