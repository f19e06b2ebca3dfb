"""index.html: one file that needs no network; its style and its script are in `templates/`."""

import base64
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from fssplat.common.printing import visible
from fssplat.report.document.content import Document, Value

FOLDER = "fssplat.report.writing"


def page(document: Document, drawings: Mapping[str, str]) -> str:
    """The page; `drawings` has the inline SVG of each figure by its name."""
    text = (
        _environment()
        .get_template("page.html")
        .render(
            document=document,
            drawings=drawings,
            style=_file("page.css"),
            script=_file("page.js"),
        )
    )
    return re.sub(r"\n\s*\n+", "\n", text)


def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    made = Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    made.filters["kind"] = lambda part: type(part).__name__.lower()
    made.filters["sort_key"] = _sort_key
    made.filters["data_address"] = _data_address
    return made


@cache
def _file(name: str) -> str:
    return resources.files(FOLDER).joinpath("templates", name).read_text("utf-8")


def _sort_key(cell: str | Value) -> str:
    """What a column is sorted by: a number with all its digits, or the text."""
    if isinstance(cell, str):
        return cell
    return "" if cell.number is None else repr(cell.number)


def _data_address(media: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(media).decode()}"
