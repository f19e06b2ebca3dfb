"""report.json: every part of a report, each number with the trials that it comes from."""

import json
import math
from collections.abc import Sequence
from typing import Any

from fssplat.report.document.content import (
    Cell,
    Code,
    Document,
    Figure,
    Gallery,
    Part,
    Points,
    Table,
    Text,
)

FORMAT = 1


def document_json(document: Document, files: Sequence[str] = ()) -> str:
    """The document as JSON text; equal documents give equal texts. `files` are those beside it."""
    sections = [
        {"key": one.key, "title": one.title, "parts": [_part(part) for part in one.parts]}
        for one in document.sections
    ]
    value = {"format": FORMAT, "title": document.title, "sections": sections, "files": list(files)}
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"kind": "text", "text": part.text, "tone": part.tone}
    if isinstance(part, Points):
        return {"kind": "points", "heading": part.heading, "items": list(part.items)}
    if isinstance(part, Code):
        return {"kind": "code", "heading": part.heading, "text": part.text}
    if isinstance(part, Table):
        return {"kind": "table", **_table(part)}
    if isinstance(part, Figure):
        return {"kind": "figure", "name": part.name, "caption": part.caption}
    return {"kind": "gallery", **_gallery(part)}


def _table(table: Table) -> dict[str, Any]:
    headings = [heading.text for heading in table.headings]
    return {
        "name": table.name,
        "caption": table.caption,
        "legend": list(table.legend),
        "headings": headings,
        "lines": [[_cell(cell) for cell in line.cells] for line in table.lines],
    }


def _cell(cell: Cell) -> Any:
    """A text, or a number with all that is shown of it."""
    if isinstance(cell, str):
        return cell
    found: dict[str, Any] = {"value": _finite(cell.number), "text": cell.text}
    if cell.spread is not None:
        found["std"] = _finite(cell.spread)
    if cell.interval is not None:
        found["interval"] = [_finite(end) for end in cell.interval]
    if cell.rank:
        found["rank"] = cell.rank
    if cell.trials:
        found["trials"] = list(cell.trials)
    return found


def _gallery(gallery: Gallery) -> dict[str, Any]:
    pictures = [
        {
            "name": one.name,
            "alt": one.alt,
            "command": one.command,
            "facts": {name: _cell(value) for name, value in one.facts},
        }
        for one in gallery.pictures
    ]
    return {"name": gallery.name, "caption": gallery.caption, "pictures": pictures}


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
