"""Figures of object vectors by t-SNE: one panel per method and fold."""

from collections.abc import Iterator, Sequence

from fssplat.report.document.content import Figure, Heading, Line, Table, Value, text_headings
from fssplat.report.figures.clouds import Panel, panels
from fssplat.report.sections.inside.collect import Cloud, RowInside
from fssplat.report.sections.inside.projection import FEWEST, SEED, perplexity, tsne

ACROSS = 4  # panels beside each other, at most


def tsne_figures(rows: Sequence[RowInside], title: str, block: str) -> Iterator[Figure]:
    """One figure for every four methods that have vectors; folds are below each other."""
    having = [row for row in rows if any(len(one.vectors) >= FEWEST for one in row.clouds)]
    parts = [having[i : i + ACROSS] for i in range(0, len(having), ACROSS)]
    for number, part in enumerate(parts, 1):
        name = f"tsne-{block}" + (f"-{number}" if len(parts) > 1 else "")
        yield _figure(part, name, title)


def _figure(rows: Sequence[RowInside], name: str, title: str) -> Figure:
    folds = sorted({one.fold for row in rows for one in row.clouds})
    lines: list[Line] = []
    grid: list[list[Panel | None]] = []
    for fold in folds:
        clouds = [next((one for one in row.clouds if one.fold == fold), None) for row in rows]
        grid.append([None if one is None else _panel(one) for one in clouds])
        for row, cloud, panel in zip(rows, clouds, grid[-1], strict=True):
            if cloud is not None and panel is not None:
                lines += _lines(row, cloud, panel)
    headings = (
        *text_headings("fold", "method", "class", "image"), Heading("x"), Heading("y"),
    )  # fmt: skip
    caption = f"{title}: {_caption(rows)}"
    data = Table(name, caption, headings, tuple(lines))
    labels, heads = [f"fold {fold}" for fold in folds], [row.name for row in rows]
    return Figure(name, caption, lambda: panels(grid, labels, heads), data)


def _panel(cloud: Cloud) -> Panel | None:
    if len(cloud.vectors) < FEWEST:
        return None
    return Panel(tsne(cloud.vectors), cloud.classes)


def _lines(row: RowInside, cloud: Cloud, panel: Panel) -> Iterator[Line]:
    points = zip(cloud.classes, cloud.images, panel.points.tolist(), strict=True)
    for name, image, (x, y) in points:
        yield Line((str(cloud.fold), row.name, name, image, Value(round(x, 4)), Value(round(y, 4))))


def _caption(rows: Sequence[RowInside]) -> str:
    """What was projected, and by which settings."""
    layers = dict.fromkeys((row.name, one.layer) for row in rows for one in row.clouds)
    where = "; ".join(f"{name}: {layer}" for name, layer in layers)
    counts = sorted({len(one.vectors) for row in rows for one in row.clouds})
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    used = ", ".join(f"{perplexity(count):.3g}" for count in counts)
    missing = sum(one.left_out for row in rows for one in row.clouds)
    gone = f" {missing} objects are too small for their layer and have no point." if missing else ""
    return (
        "t-SNE of the objects of distinct supports, one point each, equally many of each novel "
        f"class. Layer: {where}. {each} points a panel, vectors of norm 1, seed {SEED}, perplexity "
        f"{used}, start by principal components.{gone} Distances between far groups mean "
        "nothing."
    )
