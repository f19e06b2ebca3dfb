"""report.md: the report for a pull request. Nothing in a text of a user is markup."""

import re

from fssplat.common.printing import one_line
from fssplat.report.document.content import (
    Cell,
    Code,
    Document,
    Figure,
    Gallery,
    Line,
    Part,
    Points,
    Table,
    Text,
)

MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$!])")


def markdown(document: Document) -> str:
    """The whole report; figures are links to the files beside it."""
    parts = [f"# {escaped(document.title)}"]
    for section in document.sections:
        parts.append(f"## {escaped(section.title)}")
        parts += [_part(part) for part in section.parts]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """The text on one line, with a backslash before every character that could be markup."""
    return MARKUP.sub(r"\\\1", one_line(text)).replace("&", "&amp;")


def _part(part: Part) -> str:
    if isinstance(part, Text):
        tones = {"warning": "> **Note:** ", "verdict": "> "}
        return tones.get(part.tone, "") + escaped(part.text)
    if isinstance(part, Points):
        heading = [f"**{escaped(part.heading)}**", ""] if part.heading else []
        return "\n".join([*heading, *(f"- {escaped(item)}" for item in part.items)])
    if isinstance(part, Code):
        fence = "`" * (max(map(len, re.findall("`+", part.text)), default=2) + 1)
        heading = [f"**{escaped(part.heading)}**", ""] if part.heading else []
        return "\n".join([*heading, fence, part.text, fence])
    if isinstance(part, Table):
        return markdown_table(part)
    if isinstance(part, Figure):
        return f"![{escaped(part.caption)}](figures/{part.name}.png)\n\n*{escaped(part.caption)}*"
    return _gallery(part)


def markdown_table(table: Table) -> str:
    """The caption, the table, and the legend below it."""
    if not table.lines:
        return f"**{escaped(table.caption)}**"
    heads = " | ".join(escaped(heading.text) for heading in table.headings)
    rules = " | ".join("---:" if heading.numeric else "---" for heading in table.headings)
    rows = [f"| {_line(line)} |" for line in table.lines]
    legend = ["", *(f"{escaped(item)}  " for item in table.legend)] if table.legend else []
    caption = f"**{escaped(table.caption)}**"
    return "\n".join([caption, "", f"| {heads} |", f"| {rules} |", *rows, *legend])


def _line(line: Line) -> str:
    first, *rest = map(_cell, line.cells)
    return " | ".join([f"*{first}*" if line.kind else first, *rest])


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escaped(cell)
    text = escaped(cell.shown)
    if cell.rank == "best":
        text = f"**{text}**"
    if cell.rank == "second":
        text = f"<ins>{text}</ins>"
    rest = (escaped(part) for part in (cell.around, cell.marks) if part)
    return " ".join([text, *rest])


def _gallery(gallery: Gallery) -> str:
    """The pictures as a list of names; the page has the images."""
    names = [f"- {escaped(one.alt)}" for one in gallery.pictures]
    head = f"**{escaped(gallery.caption)}** The pictures are in index.html."
    return "\n".join([head, "", *names])
