"""Reads an experiment file: the file it extends, its profile and `--set key=value`."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError, first_line
from fssplat.experiment.layers import (
    Layered,
    add_changes,
    add_profile,
    profile_settings,
    read_change,
    too_many_values,
    with_entries,
)
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.recipe import SET, Sources
from fssplat.experiment.rules import Rule, check_matches
from fssplat.experiment.schema import ExperimentSpec, Layer, TrainingSpec, settings, validate

PROFILE_KEYS = ("profile", "profiles")


@dataclass(frozen=True)
class Reading:
    """A checked experiment, and where the value of each of its settings comes from."""

    experiment: ExperimentSpec
    sources: Sources = field(default_factory=dict)  # dotted name -> file, profile or --set


def load_experiment(path: Path | str, changes: tuple[str, ...] = ()) -> ExperimentSpec:
    """Read an experiment file: `extends` first, then its own keys, its profile, and `--set a.b=c`.

    Raises InputError with the file, the key and, for a misspelled key, the most similar known one.
    """
    return read_experiment(Path(path), changes).experiment


def read_experiment(path: Path, changes: tuple[str, ...] = ()) -> Reading:
    """`load_experiment`, with the sources of the settings."""
    files = _with_bases(path, ())
    return _read(files, changes, str(path), path.stem)


def made_experiment(
    keys: Mapping[str, Any], base: Path | None, changes: tuple[str, ...] = ()
) -> ExperimentSpec:
    """The experiment of a file with these keys that extends `base`, without writing the file.

    Raises InputError as `load_experiment` does.
    """
    name = str(keys["name"])
    below = _with_bases(base, ()) if base is not None else []
    return _read([*below, (name, with_entries(keys))], changes, name, name).experiment


def _read(
    files: list[tuple[str, dict[str, Any]]], changes: tuple[str, ...], where: str, name: str
) -> Reading:
    """The experiment of the files, the strongest last. Raises InputError."""
    layered = Layered({})
    for number, (source, settings_of_file) in enumerate(files):
        last = number == len(files) - 1
        layered.put({k: v for k, v in settings_of_file.items() if last or k != "name"}, source)
    given = layered.values.get("layers")
    if isinstance(given, list) and all(isinstance(layer, dict) for layer in given):
        found = layered.values.pop("layers")
        layered.layers = [validate(Layer, one, f"{where}: layers").model_dump() for one in found]
    own = files[-1][1]
    written = dict(layered.values)  # what the files say, without the profile and --set
    choosing = [change for change in changes if read_change(change)[0][0] in PROFILE_KEYS]
    add_changes(layered, choosing)
    profile, of_profile = profile_settings(layered.values, where)
    if profile:
        add_profile(layered, of_profile, f"profile {profile}")
    add_changes(layered, [change for change in changes if change not in choosing])
    experiment = _validated(layered, where, name)
    _check_own_rules(experiment, layered, own, written, where, name)
    return Reading(experiment, layered.sources)


def _validated(layered: Layered, where: str, name: str) -> ExperimentSpec:
    """The spec of the merged settings, with its layers. Raises InputError."""
    values = {key: value for key, value in layered.values.items() if key not in PROFILE_KEYS}
    plain = _resolved({**values, "layers above": layered.layers}, where)
    above = plain.pop("layers above")
    plain.setdefault("name", name)
    elsewhere = (*settings(TrainingSpec, "training."), *settings(Protocol, "protocol."))
    spec = validate(ExperimentSpec, plain, where, also=elsewhere)
    checked = [validate(Layer, one, f"{where}: {one.get('source', 'layers')}") for one in above]
    return spec.model_copy(update={"layers": tuple(checked)})


def _resolved(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Plain values, each `${...}` replaced. Raises InputError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        values = OmegaConf.to_container(OmegaConf.create(dict(config)), resolve=True)
    except OmegaConfBaseException as error:
        first = first_line(error)
        raise InputError(f"{where}: {first}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _check_own_rules(
    experiment: ExperimentSpec,
    layered: Layered,
    own: Mapping[str, Any],
    written: Mapping[str, Any],
    where: str,
    name: str,
) -> None:
    """Raises InputError for an `exclude` or an override of the file itself or of --set that
    matches no cell.

    A rule of the file counts as right if it matches the grid as the file has it, because a profile
    or --set may leave only a part of the grid.
    """
    rules: dict[str, list[Rule]] = {
        "exclude": list(_numbered("exclude", experiment.exclude)),
        "overrides": list(_numbered("overrides", [one.where for one in experiment.overrides])),
    }
    grids = [experiment]
    if written != layered.values:
        with suppress(InputError):  # the file may need its profile or --set to be whole
            grids.append(_validated(Layered(dict(written)), where, name))
    for key, found in rules.items():
        source = layered.sources.get(key, "")
        changed = [rule for rule in found if source == SET or _is_set(rule[0], layered.set_rules)]
        of_file = [rule for rule in found if rule not in changed and key in own]
        if source.startswith("profile "):
            of_file = []
        for part, tried in ((changed, [experiment]), (of_file, grids)):
            excludes, overrides = (part, []) if key == "exclude" else ([], part)
            check_matches(excludes, overrides, tried, where)
            for place, _ in overrides:
                _check_changes_something(experiment, place, where)


def _check_changes_something(experiment: ExperimentSpec, place: str, where: str) -> None:
    """Raises InputError for an override that has neither training settings nor options."""
    override = experiment.overrides[int(place.removeprefix("overrides[").removesuffix("]"))]
    if not override.training and not override.options:
        raise InputError(
            f"{where}: {place} changes nothing. Give it `training` or `options`, or leave it out."
        )


def _numbered(key: str, rules: Any) -> list[Rule]:
    return [(f"{key}[{place}]", rule) for place, rule in enumerate(rules)]


def _is_set(place: str, given: set[str]) -> bool:
    """Whether --set changes the cells of a rule, as in `exclude[0].fold=2`."""
    return any(name == place or name.startswith(f"{place}.") for name in given)


def _with_bases(path: Path, seen: tuple[Path, ...]) -> list[tuple[str, dict[str, Any]]]:
    """The files that a file extends, one after another, and the file: their names and settings."""
    if path.resolve() in seen:
        chain = " -> ".join(item.name for item in (*seen, path))
        raise InputError(f"{path}: extends itself ({chain}). Remove one `extends`.")
    config = with_entries(_yaml(path))
    base = config.pop("extends", None)
    below = []
    if base is not None:
        below = _with_bases(path.parent / str(base), (*seen, path.resolve()))
    return [*below, (path.name, config)]


def _yaml(path: Path) -> dict[str, Any]:
    """A file's own mapping, without `${...}` replaced.

    Raises InputError if the file is missing or not YAML.
    """
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not path.is_file():
        raise InputError(f"{path}: no such experiment file. See experiments/ for examples.")
    try:
        config = OmegaConf.load(path)
    except yaml.YAMLError as error:
        if too_many := too_many_values(error):
            raise InputError(f"{path}: {too_many}") from error
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise InputError(f"{path}:{where} {problem}. Fix the YAML there.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file. An experiment is a YAML mapping.") from error
    except (OmegaConfBaseException, OSError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}).") from error
    if not isinstance(config, DictConfig):
        raise InputError(
            f"{path}: an experiment is a mapping of settings, e.g. `dataset: synthetic`."
        )
    values = OmegaConf.to_container(config)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
