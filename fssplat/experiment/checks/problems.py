"""`validate`: a model from plain values, or one line with every problem, its key and a hint."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from fssplat.common.errors import InputError
from fssplat.common.printing import command_line, short
from fssplat.common.similar import did_you_mean
from fssplat.experiment.checks.booleans import wrong_booleans

S = TypeVar("S", bound=BaseModel)
MOST_PROBLEMS = 3  # in one message
# Parts of a place that pydantic adds for the members of a union.
UNION = re.compile(r"(function-|literal|constrained-|dict\[|(str|int|float|bool|none)$)")


def validate(
    model: type[S],
    value: Any,
    where: str,
    under: str = "",
    also: Sequence[str] = (),
    sources: Mapping[str, str] = MappingProxyType({}),
) -> S:
    """`model` from plain values. Raises InputError: one line with the problems and their keys.

    `under` is the prefix of the values' keys in the file, e.g. `training.`. `also` are settings of
    other sections that a misspelled key may stand for. `sources` names the other places that values
    come from, by key.
    """
    for boolean_place, given in wrong_booleans(model, value):
        raise InputError(
            f"{where}: {under}{dotted(boolean_place)} is {str(given).lower()}, but it is no "
            "yes-or-no setting. Give its value; quote a text such as 'no'."
        )
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = _by_key(error.errors(), under)
        shown = []
        for key, items in list(problems.items())[:MOST_PROBLEMS]:
            whole = all(isinstance(item.get("input"), Mapping) for item in items)
            source = "" if whole else _source(key, sources)
            named = short(key) + (f" (in {source})" if source else "")
            texts = dict.fromkeys(_problem(model, key, item, under, also) for item in items)
            text = " or ".join(texts).replace(" or : ", ", or ")
            shown.append(named + text.rstrip(".") + _got(items[-1]))
        if len(problems) > MOST_PROBLEMS:
            shown.append(f"and {len(problems) - MOST_PROBLEMS} more")
        end = "" if shown[-1].endswith("?") else "."
        raise InputError(f"{where}: " + "; ".join(shown) + end) from error


def _by_key(items: Iterable[Any], under: str) -> dict[str, list[Any]]:
    """Pydantic's problems by their key; those of a list that follow from its entries left out."""
    found: dict[str, list[Any]] = {}
    for item in items:
        place = [part for part in item["loc"] if not UNION.match(str(part))]
        key = (under + dotted(place)) if place else under.rstrip(".") or "the whole"
        of_entries = item["type"] == "too_short" and any(one.startswith(f"{key}[") for one in found)
        if not of_entries:
            found.setdefault(key, []).append(item)
    return found


def _problem(model: type[BaseModel], key: str, item: Any, under: str, also: Sequence[str]) -> str:
    """What follows a key: ` is not a setting. Did you mean other?` or `: what is needed`."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return f" is not a setting. {_hint(key, settings(model, under), also)}"
    if kind == "missing":
        name = re.sub(r"\[\d+\]", "", short(key))
        return f" is missing. `{command_line(['fssplat', 'settings', name])}` describes it"
    if kind in ("tuple_type", "list_type"):
        return f": needs a list, as in [{short(repr(item.get('input')))}]"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return ": needs a mapping of settings, as in {key: value}"
    if kind in ("too_short", "string_too_short"):
        return ": is empty. Give it a value"
    if kind == "too_long":
        return f": takes at most {context['max_length']} values"
    return f": {item['msg'].removeprefix('Value error, ')}"


def _got(item: Any) -> str:
    """The value, for the end of a problem; empty if the problem shows it or has none."""
    told = (
        "extra_forbidden",
        "missing",
        "tuple_type",
        "list_type",
        "too_short",
        "string_too_short",
    )
    value = item.get("input")
    return (
        "" if item["type"] in told or isinstance(value, Mapping) else f" (got {short(repr(value))})"
    )


def _source(key: str, sources: Mapping[str, str]) -> str:
    """Where the value of a key comes from, or a value in it, or the section that has it."""
    for name, source in sources.items():
        if name == key or name.startswith((f"{key}.", f"{key}[")):
            return source
    above = [key[: found.start()] for found in re.finditer(r"[.\[]", key)]
    return next((sources[name] for name in reversed(above) if name in sources), "")


def dotted(place: Sequence[str | int]) -> str:
    """`grid.method[1].training` for the keys and list indices of a setting."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _hint(key: str, known: list[str], also: Sequence[str]) -> str:
    """What an unknown key may stand for, or else the known ones.

    The index of an entry of a list, and the name of an entry of `datasets` or `backbones`, is kept.
    """
    entry = re.match(r"(.*\])\.|((datasets|backbones)\.[^.]+)\.", key)
    if entry:  # an entry of a list may have a `training` of its own
        head = entry[1] or entry[2]
        section = re.sub(r"\[\d+\]", "", entry[1] or entry[3])
        inside = [
            name.removeprefix(f"{section}.") for name in known if name.startswith(f"{section}.")
        ]
        inner = [name for name in also if name.split(".")[0] in inside]
        known = [f"{head}.{name}" for name in [*inside, *inner]]
    hint = did_you_mean(key, known) if entry else ""
    hint = hint or did_you_mean(key, [*known, *also])
    return hint or f"Known: {', '.join(_siblings(known, key)) or 'none'}."


def _siblings(known: list[str], key: str) -> list[str]:
    prefix = key.rpartition(".")[0]
    return [name for name in known if name.rpartition(".")[0] == prefix] or known


def settings(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of every setting of a spec that users write, nested ones included."""
    names: list[str] = []
    left_out: frozenset[str] = getattr(model, "not_for_users", frozenset())
    for name, field in model.model_fields.items():
        if name in left_out:
            continue
        names.append(prefix + name)
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                names += settings(inner, f"{prefix}{name}.")
    return names
