"""The page of all settings (docs/settings.md), made from the specs and the methods."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fssplat.experiment.datasets import BUILT_IN
from fssplat.experiment.describe import Setting, as_yaml, describe
from fssplat.experiment.protocols import PROTOCOLS, Protocol
from fssplat.experiment.schema import ExperimentSpec, TrainingSpec
from fssplat.methods import METHODS, FewShotSegmenter
from fssplat.search.space import Parameter, SearchSpec

# Settings of the file that no trial contains. A spec's own `not_hashed` lists the others.
NOT_IN_A_TRIAL = (
    "name", "claim", "datasets", "exclude", "search", "resources", "store", "tracking", "mlflow",
    "grid.method[].variant", "overrides[].where",
)  # fmt: skip
DEFAULTS = {"name": "the file's name", "protocol.name": "`fssplat`"}  # that reading a file sets
BY_CONTENT = ("training.checkpoint", "backbones.<name>.weights")  # the content of the file counts

HEAD = """\
# All settings

Made by `python docs/make_settings.py` from the source; do not edit this page by hand.

An experiment file is YAML with the keys below. `--set key=value` changes any of them, for example
`--set training.steps=100`; put quotes around brackets: `--set 'grid.fold=[0, 1]'`. A name that does
not exist is an error. `[]` after a name stands for each entry of a list, `<name>` for a key of your
own; in `--set` it is the place from 0: `--set 'grid.method[1].training.steps=60'`.

*Identity* says whether the setting is part of the id of a trial. If you change such a setting, the
trial is computed again. Other settings can be changed between two launches of the same trials.

Three more keys are read before all others: `extends` (another file, whose keys this file changes),
`profiles` (names with settings), and `profile` (the name of the one to apply).
"""


def settings_page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD, "## The file\n", _table(describe(ExperimentSpec))]
    parts += [
        "## Training\n",
        "Under `training`, `overrides[].training` and `grid.method[].training`. A default applies "
        "if neither the recipe of the method (below) nor the file sets a value. Give `steps` or "
        "`epochs`, not both. `seed` comes from `grid.seed`.\n",
        _table(describe(TrainingSpec, "training.")),
        "## Protocol\n",
        "Under `protocol`, as a name or as `{name: ..., axis: value}` "
        "([how to choose](protocols.md)). The defaults are those of `fssplat`.\n",
        _table(describe(Protocol, "protocol.")),
        "The other presets, by the axes that differ from `fssplat`:\n",
        _presets(),
        "## Search\n",
        "Under `search`; only `fssplat search` reads it ([how to search](search.md)). No setting "
        "here is part of the id of a trial.\n",
        _table(describe(SearchSpec, "search."), identity=False),
        "A dimension is an entry `search.space.<section>.<name>`; the sections are `loss_weights`, "
        "`momentum`, `training` and `options`:\n",
        _table(describe(Parameter), identity=False),
        "## Methods\n",
        "Under `grid.method[]`, for example `{name: pfenet, options: {prior: false}}`. All of them "
        "are part of the id of a trial. Trials that differ only in an option marked *scoring only* "
        "share one training.\n",
    ]
    for name in sorted(METHODS):
        parts += _method(name, METHODS[name])
    return "\n".join(parts).rstrip() + "\n"


def _table(settings: Iterable[Setting], identity: bool = True) -> str:
    head = ["setting", "type", "default", *(["identity"] if identity else []), "meaning"]
    lines = [head, ["---"] * len(head)]
    for one in settings:
        default = one.default if one.default == "required" else f"`{one.default}`"
        default = DEFAULTS.get(one.name, default)
        shown = [_identity(one)] if identity else []
        lines.append([f"`{one.name}`", one.type, default, *shown, meaning(one)])
    return _rows(lines)


def _rows(lines: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    """A cell of a Markdown table; outside code, `<` would begin a tag."""
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def meaning(setting: Setting) -> str:
    """The comment with YAML's words for Python's constants."""
    text = setting.meaning
    for python, yaml in (("None", "null"), ("False", "false"), ("True", "true")):
        text = re.sub(rf"\b{python}:", f"`{yaml}`:", text)
    return text


def _identity(setting: Setting) -> str:
    if setting.name in BY_CONTENT:
        return "its content"
    left_out = any(
        setting.name == name or setting.name.startswith((f"{name}.", f"{name}[]."))
        for name in NOT_IN_A_TRIAL
    )
    return "no" if left_out or not setting.hashed else "yes"


def _presets() -> str:
    default = PROTOCOLS["fssplat"].model_dump(mode="json")
    lines = [["preset", "axes"], ["---", "---"]]
    for name, rules in PROTOCOLS.items():
        axes = rules.model_dump(mode="json").items()
        changed = {axis: value for axis, value in axes if value != default[axis] and axis != "name"}
        if changed:
            lines.append([f"`{name}`", f"`{_inside(changed)}`"])
    return _rows(lines)


def _method(name: str, method: type[FewShotSegmenter]) -> list[str]:
    """The section of a method: options, then what belongs to its paper on one line each."""
    parts = [f"### {name}\n"]
    options = describe(method.Options, "options.")
    if options:
        parts.append(_table(_marked(options, method.SCORING_OPTIONS), identity=False))
    lines = [
        ("loss_weights", _inside(method.LOSS_WEIGHTS)),
        ("momentum", _inside(method.MOMENTUM)),
        *((f"preset `{preset}`", _inside(value)) for preset, value in method.PRESETS.items()),
    ]
    for dataset in BUILT_IN:
        lines.append((f"recipe on {dataset}", _inside(method.recipe(dataset, "resnet50"))))
        lines.append((f"options on {dataset}", _inside(method.options_for(dataset))))
    table = [["what", "value with `resnet50`"], ["---", "---"]]
    table += [[what, f"`{value}`"] for what, value in lines if value]
    return [*parts, _rows(table)]


def _marked(options: Iterable[Setting], scoring: frozenset[str]) -> Iterable[Setting]:
    for one in options:
        mark = "; *scoring only*" if one.name.removeprefix("options.") in scoring else ""
        yield Setting(one.name, one.type, one.default, one.meaning + mark, one.hashed)


def _inside(value: Mapping[str, Any]) -> str:
    """A mapping as YAML on one line, without the outer braces."""
    return as_yaml(value)[1:-1]
