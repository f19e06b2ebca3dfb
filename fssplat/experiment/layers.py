"""An experiment's settings in layers: the files, the profile and `--set`, merged in this order.

Everything here is plain mappings and lists, as YAML gives them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.printing import short
from fssplat.common.similar import known
from fssplat.experiment.checks.problems import dotted
from fssplat.experiment.checks.yaml_text import YamlError, yaml_value
from fssplat.experiment.recipe import SET, Sources, names_in
from fssplat.experiment.schema import ExperimentSpec, merged

SECTIONS = ("options", "loss_weights", "momentum", "training")  # of a method's entry
METHODS = ("grid", "method")
NOT_SET = {  # keys of a file that --set does not take
    "layers": "fssplat writes it. Set the setting itself, as in training.steps=100",
    "extends": "a file names the file that it extends. Set single settings instead",
}
NOT_IN_PROFILE = ("extends", "layers", "profile", "profiles")
KEY = re.compile(r"([^.\[\]]+)((?:\[[^\[\]]*\])*)")  # a name, and indices in brackets
Path = tuple[str | int, ...]  # a setting, such as ("grid", "method", 1, "training", "steps")


@dataclass
class Layered:
    """The merged settings, and apart from them what wins over the entries of `grid.method`."""

    values: dict[str, Any]
    layers: list[dict[str, Any]] = field(default_factory=list)  # of `schema.Layer`, weakest first
    sources: Sources = field(default_factory=dict)  # dotted name -> file, profile or --set
    set_rules: set[str] = field(default_factory=set)  # exclude, overrides: which --set gives

    def put(self, settings: Mapping[str, Any], source: str) -> None:
        """Merge settings on top. Raises InputError if they name the data sets twice."""
        grid = settings.get("grid")
        if settings.get("dataset") and isinstance(grid, Mapping) and grid.get("dataset"):
            raise InputError(
                f"{source}: dataset and grid.dataset both name the data sets. Remove one."
            )
        self.values = merged(_without_replaced_names(self.values, settings), settings)
        self.sources |= dict.fromkeys(names_in(settings), source)


def _without_replaced_names(
    below: Mapping[str, Any], above: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The settings without `grid.dataset` if `above` names its data set by `dataset` alone."""
    grid, of_above = below.get("grid"), above.get("grid")
    named = isinstance(of_above, Mapping) and of_above.get("dataset")
    if not above.get("dataset") or named or not isinstance(grid, Mapping):
        return below
    return {**below, "grid": {key: value for key, value in grid.items() if key != "dataset"}}


def with_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with each method and the protocol as a mapping; `pfenet` means {name: pfenet}.

    A data set or a backbone is named by its key.
    """
    result = dict(config)
    for section in ("datasets", "backbones"):
        if isinstance(result.get(section), Mapping):
            result[section] = {key: _named(key, one) for key, one in result[section].items()}
    if isinstance(result.get("protocol"), str):  # so that its axes are merged, not replaced
        result["protocol"] = {"name": result["protocol"]}
    grid = result.get("grid")
    if isinstance(grid, Mapping) and isinstance(grid.get("method"), list):
        result["grid"] = {**grid, "method": [_entry(item) for item in grid["method"]]}
    return result


def _named(key: Any, item: Any) -> Any:
    return {"name": key, **item} if isinstance(item, Mapping) else item


def _entry(item: Any) -> Any:
    return {"name": item} if isinstance(item, str) and "${" not in item else item


# ------------------------------------------------------------------ profile


def add_profile(layered: Layered, profile: Mapping[str, Any], source: str) -> None:
    """Merge a profile; its training, overrides and methods also make a layer.

    Its overrides are added to those of the file, so that both apply. Only an empty list removes
    those of the file.
    """
    settings = with_entries(profile)
    overrides = settings.pop("overrides", None)
    if overrides == []:
        layered.put({"overrides": []}, source)
    layered.put(settings, source)
    layer: dict[str, Any] = {"source": source}
    if settings.get("training"):
        layer["training"] = settings["training"]
    if overrides:
        layer["overrides"] = overrides
    entries = _at(settings, METHODS)
    if isinstance(entries, list):
        _forget_methods(layered)
        layer["methods"] = {place: changes_of(item) for place, item in enumerate(entries)}
    layered.layers.append(layer)


def changes_of(entry: Any) -> dict[str, Any]:
    """The sections of a method's entry, without its name."""
    if not isinstance(entry, Mapping):
        return {}
    return {section: entry[section] for section in SECTIONS if entry.get(section)}


def _forget_methods(layered: Layered) -> None:
    """Remove what lower layers change in the entries, after the list of entries was replaced."""
    for layer in layered.layers:
        layer.pop("methods", None)


# ------------------------------------------------------------------ --set


def add_changes(layered: Layered, changes: Sequence[str]) -> None:
    """Apply each `key=value` in its order; all together also make a layer.

    Raises InputError if a change cannot be read, or if its key cannot be set.
    """
    top: dict[str, Any] = {"source": SET}
    for change in changes:
        for path, value in _keys_of_grid(*read_change(change)):
            below = _without_replaced_names(layered.values, {str(path[0]): value})
            layered.values = with_entries(with_value(below, path, value, change))
            layered.sources |= dict.fromkeys(_names(path, value), SET)
            _record(layered, top, path, value, change)
    if len(top) > 1:
        layered.layers.append(top)


def _keys_of_grid(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    """`grid={...}` as one change per key, because the mapping is merged into that of the file."""
    if path == ("grid",) and isinstance(value, Mapping):
        for key, part in value.items():
            yield ("grid", str(key)), part
    else:
        yield path, {"name": value} if path == ("protocol",) and isinstance(value, str) else value


def _record(layered: Layered, top: dict[str, Any], path: Path, value: Any, change: str) -> None:
    """Put a change in the layer of --set, where it wins over the entries of `grid.method`."""
    if path[0] in ("exclude", "overrides"):
        layered.set_rules.add(dotted(path))
    if path[0] == "training":
        rest, part = _whole_list(layered, path, 1, value)
        top["training"] = with_value(top.get("training", {}), rest, part, change)
    elif path == ("overrides",):
        for layer in (*layered.layers, top):
            layer.pop("overrides", None)
        if value:
            top["overrides"] = value
    elif path[0] == "overrides":
        _record_override(layered, top, path, value, change)
    elif path == METHODS:
        _forget_methods(layered)
        entries = value if isinstance(value, list) else []
        top["methods"] = {place: changes_of(item) for place, item in enumerate(entries)}
    elif path[:2] == METHODS:
        _record_entry(layered, top, path, value, change)


def _record_override(
    layered: Layered, top: dict[str, Any], path: Path, value: Any, change: str
) -> None:
    """`overrides[1].training.steps=5` makes an override of the same cells in the layer."""
    override = _at(layered.values, path[:2])
    if not isinstance(override, Mapping) or "where" not in override:
        return  # the schema refuses it
    if len(path) == 2:
        part = {name: override[name] for name in ("training", "options") if name in override}
    elif path[2] in ("training", "options"):
        part = with_value({}, *_whole_list(layered, path, 2, value), change)
    else:
        return  # other cells; the values keep their rank
    top.setdefault("overrides", []).append({"where": override["where"], **part})


def _record_entry(
    layered: Layered, top: dict[str, Any], path: Path, value: Any, change: str
) -> None:
    place = path[2]
    methods = top.setdefault("methods", {})
    if len(path) == 3:  # the whole entry
        for layer in layered.layers:
            layer.get("methods", {}).pop(place, None)
        methods[place] = changes_of(value)
    elif path[3] in SECTIONS:
        rest, part = _whole_list(layered, path, 3, value)
        methods[place] = with_value(methods.get(place, {}), rest, part, change)


def _whole_list(layered: Layered, path: Path, start: int, value: Any) -> tuple[Path, Any]:
    """The path from `start` on and the value; if the path enters a list, the whole changed list."""
    for number in range(start, len(path)):
        if isinstance(path[number], int):
            return path[start:number], _at(layered.values, path[:number])
    return path[start:], value


def read_change(change: str) -> tuple[Path, Any]:
    """The path of a setting, and its new value, from `key=value`.

    Raises InputError if the text cannot be read.
    """
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise InputError(f"--set {change}: write key=value, e.g. --set training.steps=100.")
    path = _path(key.strip(), change)
    if path[0] in NOT_SET:
        raise InputError(f"--set {change}: {key} cannot be set so: {NOT_SET[str(path[0])]}.")
    try:
        return path, yaml_value(value)
    except YamlError as error:
        if "values" in str(error):
            raise InputError(f"--set {key}: {error}. {error.remedy}") from error
        raise InputError(
            f"--set {short(change)}: {short(value)} is not YAML ({error}). Write a value such as "
            "5, text, '[0, 1]' or '{key: value}'."
        ) from error


def _path(key: str, change: str) -> Path:
    path: list[str | int] = []
    for part in key.split("."):
        found = KEY.fullmatch(part)
        indices = re.findall(r"\[([^\[\]]*)\]", found[2]) if found else []
        if (
            found is None
            or not part.isprintable()
            or not all(re.fullmatch(r"-?\d{1,9}", index) for index in indices)
        ):
            raise InputError(
                f"--set {change}: {key} cannot be set so. Name settings by their keys, and entries "
                "of a list by their place from 0, as in 'grid.method[1].training.steps=60'."
            )
        path += [found[1], *map(int, indices)]
    return tuple(path)


def with_value(node: Any, path: Path, value: Any, change: str, above: Path = ()) -> Any:
    """A copy of `node` with the value at the path; a mapping is merged into one that is there.

    Raises InputError if the path does not fit: a place that a list lacks, or a value in between.
    """
    if not path:
        both = isinstance(node, Mapping) and isinstance(value, Mapping)
        return merged(node, value) if both else value
    problem = _misfit(node, path[0], dotted(above))
    whole = len(path) == 1 and not above and not isinstance(value, Mapping | None)
    if whole and isinstance(node, Mapping) and isinstance(node.get(path[0]), Mapping):
        problem = f"{path[0]} is a mapping, and this is not"
    if problem:
        raise InputError(
            f"--set {change}: {change.partition('=')[0]} cannot be set so: {problem}. "
            "Examples: training.steps=100, 'grid.fold=[0, 1]', 'grid.method[1].training.steps=60'."
        )
    key, rest = path[0], path[1:]
    if isinstance(key, int):
        result = list(node)
        result[key] = with_value(node[key], rest, value, change, (*above, key)) if rest else value
        return result
    node = node or {}
    inner = with_value(node.get(key), rest, value, change, (*above, key))
    below = {**node, key: None} if key in node else node  # the inner value is merged already
    return merged(below, {key: inner})


def _misfit(node: Any, key: str | int, name: str) -> str:
    """Why a key does not fit the value that is there; empty if it does."""
    if isinstance(key, int) and not isinstance(node, list):
        return f"{name} is not a list in the file"
    if isinstance(key, int) and not 0 <= key < len(node):
        has = f"entries 0 to {len(node) - 1}" if node else "no entries"
        return f"{name} has {has}, not [{key}]"
    if isinstance(key, str) and isinstance(node, list):
        return f"{name} is a list, so name an entry by its place from 0, as in {name}[0]"
    if isinstance(key, str) and not isinstance(node, Mapping | None):
        return f"{name} is {node!r}, which has no setting {key}"
    return ""


def _names(path: Path, value: Any) -> Iterator[str]:
    """The dotted names of the values in a change."""
    inside = names_in(value) if isinstance(value, Mapping) and value else [""]
    return (f"{dotted(path)}.{name}".rstrip(".") for name in inside)


def _at(config: Any, path: Path) -> Any:
    """The value at a path; None if there is none."""
    for key in path:
        if isinstance(config, Mapping):
            config = config.get(key)
        elif isinstance(config, list) and isinstance(key, int) and key < len(config):
            config = config[key]
        else:
            return None
    return config


def profile_settings(values: Mapping[str, Any], where: str) -> tuple[str, Mapping[str, Any]]:
    """The name and the settings of the profile that is asked for; "" without one.

    Raises InputError if there is no such profile, or if it is not a mapping.
    """
    profiles, chosen = values.get("profiles") or {}, values.get("profile")
    if not isinstance(profiles, Mapping):
        raise InputError(
            f"{where}: profiles: {short(repr(profiles))} is not a mapping of names to settings, "
            "e.g. {smoke: {training: {steps: 100}}}."
        )
    for name, settings in profiles.items():
        _check_profile(name, settings, where)
    if chosen is None:
        return "", {}
    if not isinstance(chosen, str | int) or chosen not in profiles:
        names = known(chosen, map(str, profiles))
        raise InputError(f"{where}: profile {chosen!r} is unknown. {names}")
    return str(chosen), profiles[chosen] or {}


def _check_profile(name: object, settings: object, where: str) -> None:
    """Raises InputError for a profile that is no mapping, or that has a key that it cannot have."""
    here = f"{where}: profiles.{name}"
    if not isinstance(settings, Mapping | None):
        raise InputError(
            f"{here}: {short(repr(settings))} is not a mapping of settings, "
            "e.g. {training: {steps: 100}}."
        )
    for key in settings or ():
        if key in NOT_IN_PROFILE:
            raise InputError(
                f"{here}: a profile has no {key}. Move it out of the profile, or remove it."
            )
        if key not in ExperimentSpec.model_fields:
            names = [one for one in ExperimentSpec.model_fields if one not in NOT_IN_PROFILE]
            raise InputError(f"{here}.{key} is not a setting. {known(key, names)}")
