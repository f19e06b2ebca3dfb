"""Reads an experiment file: the file it extends, its profile and `--set key=value`."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError, first_line
from fssplat.common.printing import short
from fssplat.experiment.checks.problems import settings, validate
from fssplat.experiment.checks.yaml_text import YamlError, yaml_value
from fssplat.experiment.layers import (
    Layered,
    add_changes,
    add_profile,
    profile_settings,
    read_change,
    with_entries,
)
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.recipe import SET, Sources
from fssplat.experiment.rules import Rule, check_matches
from fssplat.experiment.schema import ExperimentSpec, Layer, TrainingSpec

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
    files = _with_bases(path)
    return _read(files, changes, str(path), path.stem)


def made_experiment(
    keys: Mapping[str, Any], base: Path | None, changes: tuple[str, ...] = ()
) -> ExperimentSpec:
    """The experiment of a file with these keys that extends `base`, without writing the file.

    Raises InputError as `load_experiment` does.
    """
    name = str(keys["name"])
    below = _with_bases(base) if base is not None else []
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
    own = (Path(where).name, SET)
    other = {key: source for key, source in layered.sources.items() if source not in own}
    spec = validate(ExperimentSpec, plain, where, also=elsewhere, sources=other)
    checked = [validate(Layer, one, f"{where}: {one.get('source', 'layers')}") for one in above]
    return spec.model_copy(update={"layers": tuple(checked)})


def _resolved(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Plain values, each `${...}` replaced. Raises InputError, also for `???`, a missing value."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        values = OmegaConf.to_container(
            OmegaConf.create(dict(config)), resolve=True, throw_on_missing=True
        )
    except MissingMandatoryValue as error:
        raise InputError(
            f"{where}: {error.full_key}: ??? marks a value that is missing. Give it."
        ) from error
    except OmegaConfBaseException as error:
        first = first_line(error)
        reason = short((first.partition(" interpolation: ")[2] or first).strip('"'), 200)
        raise InputError(
            f"{where}: {error.full_key}: {reason}. Name a setting, as in ${{name}}, or a variable "
            "that is set, as in ${oc.env:HOME}."
        ) from error
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


def _with_bases(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The files that a file extends, one after another, and the file: their names and settings."""
    found: list[tuple[str, dict[str, Any]]] = []
    seen: dict[str, Path] = {}  # by their real place
    base: Any = path
    while base is not None:
        place = os.path.realpath(base)
        if place in seen:
            chain = " -> ".join(item.name for item in (*seen.values(), base))
            raise InputError(f"{path}: extends itself ({chain}). Remove one `extends`.")
        seen[place] = base
        config = with_entries(_yaml(base))
        found.insert(0, (base.name, config))
        base = _base_of(config, base)
    return found


def _base_of(config: dict[str, Any], path: Path) -> Path | None:
    """The file that a file extends, taken out of its settings. Raises InputError."""
    name = config.pop("extends", None)
    if name is None:
        return None
    base = path.parent / str(name)
    if not isinstance(name, str) or not os.path.isfile(base):
        raise InputError(
            f"{path}: extends: {short(repr(name))} is no file beside it. Name one file, as in "
            "`extends: base.yaml`."
        )
    return base


def _yaml(path: Path) -> dict[str, Any]:
    """A file's own mapping, without `${...}` replaced.

    Raises InputError if the file is missing or not YAML.
    """
    if not os.path.isfile(path):
        kind = "not a file" if os.path.lexists(path) else "no such experiment file"
        longer = f"{path}.yaml"
        hint = (
            f"Did you mean {longer}?"
            if os.path.isfile(longer)
            else "See experiments/ for examples."
        )
        raise InputError(f"{short(str(path), 400)}: {kind}. {hint}")
    try:
        values = yaml_value(path.read_text(encoding="utf-8-sig"))
    except YamlError as error:
        raise InputError(f"{path}: {error}. {error.remedy}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not a text file in UTF-8. An experiment is a YAML mapping."
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Check the file and its permissions."
        ) from error
    if not isinstance(values, dict | None):
        raise InputError(
            f"{path}: an experiment is a mapping of settings, e.g. `dataset: synthetic`."
        )
    return {str(key): value for key, value in (values or {}).items()}
