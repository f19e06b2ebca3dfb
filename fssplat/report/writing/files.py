"""Writes all files of a report into a folder; equal documents give equal bytes."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fssplat.common.json_files import all_strings, json_object
from fssplat.common.plain_names import is_plain_path
from fssplat.common.whole_files import write_bytes
from fssplat.report.document.content import Cell, Document, Figure, Table
from fssplat.report.figures.style import inline_svg, saved, webp
from fssplat.report.writing.as_json import document_json
from fssplat.report.writing.html import page
from fssplat.report.writing.markdown import markdown, markdown_table
from fssplat.report.writing.tex import tex_table

PAGE, LIST = "index.html", "report.json"
FOLDERS = ("tables/", "figures/")


def write_report(
    document: Document, folder: Path, progress: Callable[[str], None] = lambda step: None
) -> list[Path]:
    """Write every format. Returns the files, the page first. Raises OSError.

    Files that an earlier report listed, and that this one does not have, are deleted.
    """
    contents: dict[str, bytes] = {}
    for table in document.tables():
        contents |= {f"tables/{name}": content for name, content in table_files(table)}
    drawings = {}
    figures = document.figures()
    for number, figure in enumerate(figures, 1):
        progress(f"Figure {number} of {len(figures)}: {figure.name}")
        drawn = figure.draw()
        contents |= {f"figures/{name}": content for name, content in figure_files(figure, drawn)}
        drawings[figure.name] = inline(figure, drawn, contents[f"figures/{figure.name}.png"])
    earlier = listed_files(folder / LIST)
    texts = {
        PAGE: page(document, drawings),
        "report.md": markdown(document),
        LIST: document_json(document, sorted(contents)),
    }
    contents = {name: text.encode() for name, text in texts.items()} | contents
    for name, content in contents.items():
        write_bytes(folder / name, content)
    for name in earlier - set(contents):
        (folder / name).unlink(missing_ok=True)
    return [folder / name for name in contents]


def table_files(table: Table) -> Iterator[tuple[str, bytes]]:
    """The table as .tex, .csv and .md."""
    yield f"{table.name}.tex", tex_table(table).encode()
    yield f"{table.name}.csv", csv_text(table).encode()
    yield f"{table.name}.md", (markdown_table(table) + "\n").encode()


def figure_files(figure: Figure, drawn: Any) -> Iterator[tuple[str, bytes]]:
    """The drawn figure as .pdf and .png, and its numbers as .csv, maps as .npz."""
    yield f"{figure.name}.pdf", saved(drawn, "pdf")
    yield f"{figure.name}.png", saved(drawn, "png")
    yield f"{figure.name}.csv", csv_text(figure.data).encode()
    if figure.arrays:
        yield f"{figure.name}.npz", arrays_file(figure.arrays)


def arrays_file(arrays: Mapping[str, Any]) -> bytes:
    """The arrays as an NPZ file, which `numpy.load` reads; it has no dates."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def inline(figure: Figure, drawn: Any, png: bytes) -> str:
    """The drawn figure for the page: as SVG, or as pixels if it is made of photographs."""
    if not figure.picture:
        return inline_svg(drawn, figure.name)
    return f'<img alt="" src="data:image/webp;base64,{webp(png)}">'


def listed_files(path: Path) -> set[str]:
    """The tables and figures that the report.json of an earlier report lists."""
    try:
        files = json_object(path.read_bytes()).get("files")
    except (OSError, ValueError):
        return set()
    names = files if all_strings(files) and isinstance(files, list) else []
    return {name for name in names if is_plain_path(name) and name.startswith(FOLDERS)}


def csv_text(table: Table) -> str:
    """The table's numbers with all their digits; a spread or an interval has columns of its own."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = range(len(table.headings))
    extra = [_extras(table, column) for column in columns]
    heads = [
        name
        for heading, more in zip(table.headings, extra, strict=True)
        for name in (heading.text, *(f"{heading.text} {one}" for one in more))
    ]
    writer.writerow(heads)
    for line in table.lines:
        cells = zip(line.cells, extra, strict=True)
        writer.writerow([text for cell, more in cells for text in _texts(cell, more)])
    return stream.getvalue()


def _extras(table: Table, column: int) -> list[str]:
    """The additional columns that a column of the table needs."""
    cells = [line.cells[column] for line in table.lines]
    values = [cell for cell in cells if not isinstance(cell, str)]
    spread = ["std"] if any(one.spread is not None for one in values) else []
    interval = ["low", "high"] if any(one.interval is not None for one in values) else []
    return [*spread, *interval]


def _texts(cell: Cell, extras: list[str]) -> list[str]:
    """A cell's texts for its column and the additional ones."""
    if isinstance(cell, str):
        return [cell, *("" for _ in extras)]
    low, high = cell.interval or (None, None)
    numbers = {"std": cell.spread, "low": low, "high": high}
    return [_digits(cell.number), *(_digits(numbers[name]) for name in extras)]


def _digits(value: float | None) -> str:
    return "" if value is None or value != value else repr(float(value))
