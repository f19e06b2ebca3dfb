"""Reads an experiment file: the file it extends, its profile and `--set key=value`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError
from fssplat.experiment.schema import ExperimentSpec, replaced_length, validate


def load_experiment(path: Path | str, changes: tuple[str, ...] = ()) -> ExperimentSpec:
    """Read an experiment file: `extends` first, then its own keys, its profile, and `--set a.b=c`.

    Raises InputError with the file, the key and, for a misspelled key, the most similar known one.
    """
    path = Path(path)
    merged = read_layers(path, changes)
    merged.setdefault("name", path.stem)
    return validate(ExperimentSpec, merged, str(path))


def made_experiment(
    keys: Mapping[str, Any], base: Path | None, changes: tuple[str, ...] = ()
) -> ExperimentSpec:
    """The experiment of a file with these keys that extends `base`, without writing the file.

    Raises InputError as `load_experiment` does.
    """
    below = _with_bases(base, ()) if base is not None else {}
    where = str(keys["name"])
    merged = _resolved(_merged(below, dict(keys)), changes, where)
    return validate(ExperimentSpec, merged, where)


def read_layers(path: Path, changes: tuple[str, ...] = ()) -> dict[str, Any]:
    """The file's mapping with `extends`, `profile` and changes merged in, `${...}` resolved."""
    return _resolved(_with_bases(path, ()), changes, str(path))


def _resolved(config: Any, changes: tuple[str, ...], where: str) -> dict[str, Any]:
    """Plain values of a config with its changes and its profile. Raises InputError."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    changed: Any = OmegaConf.create({})
    for change in changes:
        config, changed = (_with_change(part, change) for part in (config, changed))
    try:
        config = _with_profile(config, changed, where)
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{where}: {first}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _with_profile(config: Any, changed: Any, where: str) -> Any:
    """The config under its profile, which is under `--set`'s changes. Raises InputError."""
    profiles = config.pop("profiles", {}) or {}
    profile = config.pop("profile", None)
    if not isinstance(profiles, Mapping):
        raise InputError(f"{where}: profiles: {profiles} is not a mapping of names to settings.")
    if profile is None:
        return config
    if profile not in profiles:
        known = ", ".join(map(str, profiles)) or "none"
        raise InputError(f"{where}: profile {profile!r} is unknown. Known: {known}.")
    for key in ("profile", "profiles"):
        changed.pop(key, None)
    settings = profiles[profile] or {}
    if not isinstance(settings, Mapping):
        raise InputError(
            f"{where}: profiles.{profile}: {settings} is not a mapping of settings, "
            "e.g. {training: {steps: 100}}."
        )
    return _merged(_merged(config, settings), changed)


def _with_change(config: Any, change: str) -> Any:
    """The config with one `key=value` on top. Raises InputError if it cannot be read or set."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    key, _, value = change.partition("=")
    if "=" not in change:
        raise InputError(f"--set {change}: write key=value, e.g. --set training.steps=100.")
    try:
        return _merged(config, OmegaConf.from_dotlist([change]))
    except yaml.YAMLError as error:
        raise InputError(f"--set {change}: {value} is not YAML. Close every bracket.") from error
    except (OmegaConfBaseException, TypeError, IndexError) as error:  # IndexError: a lone `[`
        raise InputError(
            f"--set {change}: {key} cannot be set so. Name settings by their keys, as in "
            "training.steps=100; give a list whole, as in 'grid.fold=[0, 1]'."
        ) from error


def _with_bases(path: Path, seen: tuple[Path, ...]) -> Any:
    """A file's config on top of the files that it extends, one after another."""
    if path.resolve() in seen:
        chain = " -> ".join(item.name for item in (*seen, path))
        raise InputError(f"{path}: extends itself ({chain}). Remove one `extends`.")
    config = _read(path)
    if isinstance(config.get("protocol"), str):  # so that a profile changes axes, not the preset
        config["protocol"] = {"name": config["protocol"]}
    base = config.pop("extends", None)
    if base is None:
        return config
    below = _with_bases(path.parent / str(base), (*seen, path.resolve()))
    below.pop("name", None)
    return _merged(below, config)


def _read(path: Path) -> Any:
    """A file's own mapping. Raises InputError if it is missing or not YAML."""
    import yaml
    from omegaconf import DictConfig, OmegaConf

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
    return config


def _merged(below: Any, above: Any) -> Any:
    """`above` on top of `below`, with one length per training."""
    from omegaconf import OmegaConf

    config = OmegaConf.merge(below, above)
    _drop_replaced_lengths(config, OmegaConf.to_container(OmegaConf.create(above)))
    return config


def _drop_replaced_lengths(config: Any, above: Any) -> None:
    config.pop(replaced_length(above), None)
    for key, part in above.items():
        if isinstance(part, dict):
            _drop_replaced_lengths(config[key], part)
