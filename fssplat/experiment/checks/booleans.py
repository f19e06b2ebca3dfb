"""Finds true and false where a number or a text belongs: pydantic reads them as 1 and 0."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

Place = tuple[str | int, ...]  # keys and list indices


def wrong_booleans(model: type[BaseModel], value: Any) -> Iterator[tuple[Place, bool]]:
    """The booleans among plain values that are given for settings which have none, by place."""
    return _wrong([model], value, ()) if _has_boolean(value) else iter(())


def _wrong(kinds: list[Any], value: Any, place: Place) -> Iterator[tuple[Place, bool]]:
    """`kinds` are the types that the annotation of the setting names."""
    if isinstance(value, bool) and bool not in kinds and Any not in kinds:
        yield place, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _wrong(kinds, item, (*place, number))
    elif isinstance(value, dict):
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        fields = {name: field for one in models for name, field in one.model_fields.items()}
        for key, item in value.items():
            if models and key not in fields and isinstance(item, bool):
                continue  # no setting, or no mapping: another error
            inner = _named(fields[key].annotation) if key in fields else kinds
            yield from _wrong(inner, item, (*place, key))


def _has_boolean(value: Any) -> bool:
    """Whether a value contains a boolean; fast, because a plan may call it ten thousand times."""
    kind = type(value)
    if kind is dict:
        return any(map(_has_boolean, value.values()))
    return any(map(_has_boolean, value)) if kind in (list, tuple) else kind is bool


def _named(annotation: Any) -> list[Any]:
    """The types that an annotation names: float and str for dict[str, float | None]."""
    inside = [kind for argument in get_args(annotation) for kind in _named(argument)]
    return inside or [annotation]
