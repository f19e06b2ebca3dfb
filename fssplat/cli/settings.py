"""`fssplat settings`: what can be set in an experiment file and by `--set`."""

import re
from typing import TYPE_CHECKING

import typer

from fssplat.common.printing import say

if TYPE_CHECKING:
    from fssplat.experiment.describe import Setting


def settings(
    prefix: str = typer.Argument("", help="A setting or a section, e.g. training.augment."),
) -> None:
    """Show what can be set, with type, default and meaning: fssplat settings training

    Change one with --set, e.g. --set training.lr=0.01. Options of a method: fssplat methods hsnet
    """
    from fssplat.cli.settings_page import DEFAULTS, meaning
    from fssplat.cli.text_columns import columns

    rows = []
    for one in matching(prefix):
        default = DEFAULTS.get(one.name, one.default).replace("`", "")
        kind = one.type.replace("`", "")
        shown = default if default == "required" else f"default {default}"
        rows.append((one.name, f"{meaning(one).replace('`', '')} [{kind}; {shown}]"))
    say(columns(rows, widest=34))
    if not prefix:
        say("\nOptions, loss weights and presets of a method: fssplat methods hsnet")


def every_setting() -> "list[Setting]":
    """All settings of an experiment file, methods' options excepted."""
    from fssplat.experiment.describe import describe
    from fssplat.experiment.protocols import Protocol
    from fssplat.experiment.schema import ExperimentSpec, TrainingSpec
    from fssplat.search.space import Parameter, SearchSpec

    inner = [
        *describe(TrainingSpec, "training."),
        *describe(Protocol, "protocol."),
        *describe(SearchSpec, "search."),
        *describe(Parameter, "search.space.<section>.<name>."),
    ]
    return [*describe(ExperimentSpec), *inner]


def matching(prefix: str) -> "list[Setting]":
    """The settings under a prefix, or else those whose name contains it.

    Raises InputError if there is none.
    """
    from fssplat.common.errors import InputError
    from fssplat.common.similar import did_you_mean

    wanted = _without_places(prefix.strip(".").lower())
    known = every_setting()
    under = [one for one in known if not wanted or _is_in(_without_places(one.name), wanted)]
    found = under or [one for one in known if wanted in one.name]
    if not found:
        hint = did_you_mean(wanted, [one.name for one in known])
        hint += " " if hint else ""
        raise InputError(
            f"{prefix} is not a setting. {hint}`fssplat settings` lists all; options of a method "
            "are in `fssplat methods`."
        )
    return found


def _without_places(name: str) -> str:
    """`grid.method.name` for `grid.method[1].name` and `grid.method[].name`."""
    return re.sub(r"\[\d*\]", "", name)


def _is_in(name: str, section: str) -> bool:
    """Whether a setting is `section` or in it; `datasets.<name>.root` is in datasets.mine."""
    parts, wanted = name.split("."), section.split(".")
    pairs = zip(parts, wanted, strict=False)
    return len(parts) >= len(wanted) and all(a == b or a.startswith("<") for a, b in pairs)
