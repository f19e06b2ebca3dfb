"""Read JSON that may be damaged: any damage is one ValueError that says what is wrong."""

import json
from typing import Any

LARGEST = 10**300  # a whole number beyond it fits no float


def json_value(data: bytes | str) -> Any:
    """The value in a JSON text. Raises ValueError, also for a text that is nested too deeply."""
    if not data:
        raise ValueError("is empty")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError:
        raise ValueError("is not valid JSON") from None


def json_object(data: bytes | str) -> dict[str, Any]:
    """The object in a JSON text. Raises ValueError if it is damaged or another kind of value."""
    value = json_value(data)
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number that fits a float; true and false are none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < LARGEST
    return isinstance(value, float)


def is_count(value: Any) -> bool:
    """Whether a JSON value is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def all_strings(value: Any) -> bool:
    """Whether a JSON value is a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
