"""What is predicted in a folder already: a line of JSON for each picture, added when it is done.

The first line has the settings. All formats can be written from the lines, so that a second call
with another format needs no network.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fssplat.common.errors import InputError
from fssplat.common.json_files import json_object
from fssplat.common.whole_files import replacing
from fssplat.serving.folders.queries import Query
from fssplat.serving.outputs.predicted import Predicted, drawn

FILE = ".predictions.jsonl"
FORMAT = 1
KEYS = {"file", "name", "stamp", "size", "runs", "confidence"}


class Journal:
    """The journal of one output folder, open for new lines."""

    def __init__(self, out: Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
        """Read the lines that are there. Raises InputError if they are of other settings."""
        self.path = out / FILE
        self.settings = {"format": FORMAT, **settings}
        self.lines: dict[str, dict[str, Any]] = {}  # by file
        written = [] if overwrite else self._read()
        if written and written[0] != self.settings:
            changed = [k for k, v in self.settings.items() if written[0].get(k) != v]
            raise InputError(
                f"{out}: it has predictions with another {' and '.join(changed) or 'setting'}. "
                "Choose another --out, or replace them with --overwrite."
            )
        for line in written[1:]:
            if set(line) >= KEYS:
                self.lines[line["file"]] = line
        try:
            with replacing(self.path) as temporary:
                texts = map(_text, [self.settings, *self.lines.values()])
                temporary.write_text("".join(texts), encoding="utf-8")
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"--out {out}: cannot be written ({error.strerror}). Choose another."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._file.close()

    def done(self, query: Query) -> dict[str, Any] | None:
        """The line of a query; None if it is not predicted, or its picture has changed."""
        line = self.lines.get(query.file)
        return line if line is not None and line["stamp"] == query.stamp else None

    def add(self, query: Query, one: Predicted) -> dict[str, Any]:
        """Append the line of a query that is predicted."""
        line = {
            "file": query.file,
            "name": query.name,
            "stamp": query.stamp,
            "size": list(one.size),
            "runs": one.runs(),
            "confidence": {name: round(value, 4) for name, value in one.confidence.items()},
        }
        self.lines[query.file] = line
        self._file.write(_text(line))
        self._file.flush()
        return line

    def _read(self) -> list[dict[str, Any]]:
        """The lines that are whole; the last one may be cut short."""
        try:
            texts = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for text in texts:
            try:
                found.append(json_object(text))
            except ValueError:
                break
        return found


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True) + "\n"


def predicted(line: Mapping[str, Any], image: Path, classes: Sequence[str]) -> Predicted:
    """The prediction of a line. Raises ValueError if it is damaged."""
    size = (int(line["size"][0]), int(line["size"][1]))
    labels = drawn(line["runs"], tuple(classes), size)
    return Predicted(line["name"], image, labels, tuple(classes), line["confidence"])


def table(lines: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> list[list[str]]:
    """Rows of predictions.csv: a row for each picture and class."""
    rows = [["image", "class", "status", "pixels", "share", "confidence"]]
    for line in sorted(lines, key=lambda one: str(one["file"])):
        if "fault" in line:
            rows.append([line["file"], "", f"unreadable: {line['fault']}", "", "", ""])
            continue
        area = line["size"][0] * line["size"][1]
        for name in classes:
            count = _pixels(line["runs"].get(name))
            status = "found" if count else "absent"
            values = [str(count), f"{count / area:.6f}", f"{line['confidence'][name]:.4f}"]
            rows.append([line["file"], name, status, *values])
    return rows


def _pixels(shape: Any) -> int:
    from pycocotools import mask

    return int(mask.area(shape)) if shape else 0
