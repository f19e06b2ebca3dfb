"""The chapter of a report: maps inside the networks, computed labels, and t-SNE."""

from collections.abc import Callable, Iterator, Sequence

from fssplat.engine.device import best_device
from fssplat.report.blocks import Block
from fssplat.report.document.content import Figure, Part, Points, Section, Text
from fssplat.report.evidence.gather import Evidence
from fssplat.report.sections.inside.clouds import tsne_figures
from fssplat.report.sections.inside.collect import RowInside, collect
from fssplat.report.sections.inside.maps import (
    LEGEND,
    file_names,
    label_figure,
    map_figure,
    shared_figures,
)
from fssplat.report.sections.inside.models import Models
from fssplat.report.sections.labels import short_title

Progress = Callable[[str], None]


def inside(evidence: Evidence, progress: Progress = lambda step: None) -> Section | None:
    """Figures of every table with a result; None if the reader did not ask for them.

    It opens the models of the store. What is not on this machine is named in place of its figures.
    """
    if not evidence.options.maps:
        return None
    models = Models(evidence, best_device())
    parts: list[Part] = [Text(LEGEND)]
    problems: list[str] = []
    for block in evidence.blocks:
        if any(row.cells for row in block.rows):
            parts += _of_block(block, models, problems, progress)
    if problems:
        parts.append(Points(tuple(dict.fromkeys(problems)), "Not shown", "warning"))
    return Section("maps", "Maps and features", tuple(parts))


def _of_block(
    block: Block, models: Models, problems: list[str], progress: Progress
) -> Iterator[Part]:
    limit = models.evidence.options.prototypes
    rows = collect(block, models, limit, problems, progress)
    title = short_title(block)
    without = [row.name for row in rows if row.even and not row.even[0].maps]
    if without:
        yield Text(f"{title}: {', '.join(without)} has no inner map; its predictions are shown.")
    files = file_names([row.name for row in rows])
    yield from _figures(rows, files, title, block.name)
    yield from shared_figures(rows, title, block.name)
    progress(f"t-SNE: {block.name}")
    yield from tsne_figures(rows, title, block.name)


def _figures(
    rows: Sequence[RowInside], files: Sequence[str], title: str, block: str
) -> Iterator[Figure]:
    for row, file in zip(rows, files, strict=True):
        if row.even:
            caption = f"{title}: {row.name} on the same episodes as every other row."
            yield map_figure(f"maps-{block}-{file}", caption, row.even)
        if row.worst:
            caption = (
                f"{title}: failures of {row.name}, its lowest IoU in each fold, at most one "
                "episode of a class."
            )
            yield map_figure(f"failures-{block}-{file}", caption, row.worst)
        if row.labelled:
            yield label_figure(f"labels-{block}-{file}", title, row)
