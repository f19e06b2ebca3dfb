"""Describes each setting of a spec: name, type, default, meaning, part of a trial's identity.

The meaning of a setting is the comment beside its field, or else the comment directly above it, so
that the source and the page of all settings have one text.
"""

import ast
import inspect
import io
import json
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel

from fssplat.experiment.schema import Layer

LIMITS = {  # JSON schema's word -> ours
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}
TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
}
ORDER = {"object": 1, "null": 2}  # after the other types of a setting that has several


@dataclass(frozen=True)
class Setting:
    """One setting as the page of all settings shows it."""

    name: str  # dotted, as in `training.augment.scale`
    type: str
    default: str  # as YAML; "required" if there is none
    meaning: str
    hashed: bool  # False if its spec leaves it out of the identity of a trial


def describe(model: type[BaseModel], prefix: str = "") -> list[Setting]:
    """Every setting of a spec, with those of the specs inside it.

    A spec in a mapping appears under `<name>`, a spec in a list under `[]`.
    """
    return list(_settings(model, prefix, True))


def _settings(model: type[BaseModel], prefix: str, hashed: bool) -> Iterator[Setting]:
    schema = model.model_json_schema()
    meanings = comments(model)
    left_out: frozenset[str] = getattr(model, "not_hashed", frozenset())
    for name, field in model.model_fields.items():
        entry = schema["properties"][name]
        counts = hashed and name not in left_out
        inner = _inner(field.annotation)
        if inner is None or inner[1]:
            default = "required" if field.is_required() else as_yaml(entry.get("default", {}))
            kind = _type(entry, schema.get("$defs", {}))
            yield Setting(prefix + name, kind, default, meanings.get(name, ""), counts)
        if inner is not None and inner[0] is not Layer:  # layers are written by fssplat
            yield from _settings(inner[0], f"{prefix}{name}{inner[1]}.", counts)


def _inner(annotation: Any) -> tuple[type[BaseModel], str] | None:
    """The spec inside a field and how its names continue: "", "[]" in a list, ".<name>" in a
    mapping. Returns None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    for argument in get_args(annotation):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            origin = getattr(annotation, "__origin__", None)
            return argument, {tuple: "[]", dict: ".<name>"}.get(origin, "")  # type: ignore[arg-type]
    return None


def comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment of each field, by its name, base classes included."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _comments_of(base)
    return found


def _comments_of(model: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(model))
    lines = source.splitlines()
    by_line = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and "type: ignore" not in token.string
    }
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            beside = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            text = [by_line[line] for line in beside if line in by_line]
            above = node.lineno - 1
            while not text and above > 0 and lines[above - 1].lstrip().startswith("#"):
                above -= 1
            text = text or [by_line[line] for line in range(above + 1, node.lineno)]
            found[node.target.id] = " ".join(text)
    return found


def _type(entry: Mapping[str, Any], specs: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in entry:
        return "mapping"
    if "anyOf" in entry:
        kinds = sorted(entry["anyOf"], key=lambda one: ORDER.get(one.get("type", ""), 0))
        return ", or ".join(dict.fromkeys(_type(one, specs) for one in kinds))
    if "enum" in entry or "const" in entry:
        return ", ".join(f"`{as_yaml(one)}`" for one in entry.get("enum", [entry.get("const")]))
    if entry.get("type") == "array":
        if "prefixItems" in entry:
            return f"[{', '.join(_type(one, specs) for one in entry['prefixItems'])}]"
        return f"list of {_type(entry.get('items', {}), specs)}"
    if entry.get("type") == "object":
        value = entry.get("additionalProperties")
        if isinstance(value, dict) and value and "$ref" not in value:
            return f"mapping of name to {_type(value, specs)}"
        return "mapping"
    limits = [f"{sign} {entry[word]:g}" for word, sign in LIMITS.items() if word in entry]
    return " ".join([TYPES.get(entry.get("type", ""), "any value"), " and ".join(limits)]).strip()


def as_yaml(value: Any) -> str:
    """A value on one line of YAML, as `--set` takes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_yaml(item) for item in value) + "]"
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value)
