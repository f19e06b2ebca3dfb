"""Ways to damage a JSON file of a store."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEXTS = {
    "empty": b"",
    "blank": b" \n",
    "null": b"null",
    "list": b"[]",
    "number": b"3",
    "text": b'"finished"',
    "NaN": b"NaN",
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "long number": b"1" * 5000,
    "Latin-1": '{"reason": "é"}'.encode("latin-1"),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "binary": bytes(range(256)),
    "no keys": b"{}",
}
VALUES: tuple[Any, ...] = (
    None, True, -1, 10**400, float("inf"), "../../x", [[1]], {"a": [1]}, {"../../x": 1}
)  # fmt: skip


def damage_with(path: Path, kind: str, whole: bytes) -> None:
    """Replace a file by one of TEXTS, or by a cut file or something that is no regular file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind in TEXTS:
        path.write_bytes(TEXTS[kind])
    elif kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "garbage at the end":
        path.write_bytes(whole + b"}x")
    elif kind == "folder":
        (path / "inner").mkdir(parents=True)
    elif kind == "read error":
        path.symlink_to("/proc/self/mem")  # opens, and each read of it fails
    elif kind == "link to itself":
        path.symlink_to(path.name)
    else:
        assert kind == "pipe"
        os.mkfifo(path)


KINDS = (
    *TEXTS, "cut", "garbage at the end", "folder", "read error", "link to itself", "pipe"
)  # fmt: skip


def with_wrong_values(value: Any) -> Iterator[Any]:
    """Copies of a JSON object in which one value, also an inner one, is of a wrong type."""
    for key, inner in value.items():
        for wrong in VALUES:
            yield {**value, key: wrong}
        yield {name: kept for name, kept in value.items() if name != key}
        if isinstance(inner, dict):
            for changed in with_wrong_values(inner):
                yield {**value, key: changed}


def wrong_files(whole: bytes) -> list[bytes]:
    return [json.dumps(value).encode() for value in with_wrong_values(json.loads(whole))]
