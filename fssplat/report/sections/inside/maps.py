"""Figures of maps: supports, queries, predictions, and below them what the network computed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fssplat.data.masks.labels import IGNORE
from fssplat.engine.scoring.panels import Mask, Pixels, overlaid
from fssplat.methods.base import LabelledImage
from fssplat.report.document.content import (
    Figure,
    Heading,
    Line,
    Table,
    Value,
    shown,
    text_headings,
)
from fssplat.report.figures.tiles import PIXELS, TileRow, sheet
from fssplat.report.sections.inside.collect import Column, RowInside

LEGEND = (
    "Masks are tinted, with a light line inside and a dark line outside. Colours of a map run from "
    "0 to 1, or between the lowest and the highest value of its row, as the bar says."
)


def map_figure(name: str, caption: str, columns: Sequence[Column]) -> Figure:
    """Supports, queries with truth, predictions with IoU, and all maps of one method."""
    names = list(dict.fromkeys(name for column in columns for name in column.maps))
    on_support = [one for one in names if one in columns[0].on_support]
    on_query = [one for one in names if one not in on_support]
    rows = [
        TileRow("support", [marked(one.support, one.support_mask) for one in columns]),
        *(_map_row(one, one, columns) for one in on_support),
        TileRow("query, truth", [marked(one.query, one.truth) for one in columns]),
        _predictions("prediction", columns),
        *(_map_row(one, one, columns) for one in on_query),
    ]
    heads = heads_of(columns)
    return Figure(
        name,
        caption,
        lambda: sheet(rows, heads),
        episode_table(name, caption, columns),
        arrays_of({"": columns}),
        picture=True,
    )


def shared_figures(rows: Sequence[RowInside], title: str, block: str) -> Iterator[Figure]:
    """The predictions of all methods on the same episodes, and each map that several have.

    A map that is equal in all methods has no figure of its own.
    """
    if sum(bool(row.even) for row in rows) > 1:
        yield _all_predictions(f"predictions-{block}", title, [row for row in rows if row.even])
    names = list(dict.fromkeys(name for row in rows for one in row.even for name in one.maps))
    for name, file in zip(names, file_names(names), strict=True):
        having = [row for row in rows if any(name in one.maps for one in row.even)]
        if len(having) > 1 and not _all_equal(name, having):
            yield _shared(name, f"compared-{block}-{file}", title, having)


def _all_equal(view: str, rows: Sequence[RowInside]) -> bool:
    """Whether all rows have the same maps, such as a prior that no training changes."""
    first = {_key(one): one.maps.get(view) for one in rows[0].even}
    return all(
        np.array_equal(np.asarray(one.maps.get(view)), np.asarray(first.get(_key(one))))
        for row in rows[1:]
        for one in row.even
    )


def _all_predictions(file: str, title: str, rows: Sequence[RowInside]) -> Figure:
    """Supports, queries with truth, and below them the prediction of each method."""
    ordered = _episodes(rows)
    tiles = [
        TileRow("support", [marked(one.support, one.support_mask) for one in ordered]),
        TileRow("query, truth", [marked(one.query, one.truth) for one in ordered]),
    ]
    lines: list[Line] = []
    for row in rows:
        own = {_key(one): one for one in row.even}
        columns = [own.get(_key(one)) for one in ordered]
        tiles.append(_predictions(row.name, columns))
        for number, one in enumerate(columns, 1):
            if one is not None:
                place = map(str, (number, one.fold, one.seed, one.episode))
                lines.append(Line((*place, one.name, row.name, Value(100 * one.iou))))
    texts = text_headings("column", "fold", "episode seed", "episode", "class", "row")
    caption = f"{title}: predictions of {', '.join(row.name for row in rows)}."
    data = Table(file, caption, (*texts, Heading("IoU, %")), tuple(lines))
    heads = heads_of(ordered)
    return Figure(file, caption, lambda: sheet(tiles, heads), data, picture=True)


def _episodes(rows: Sequence[RowInside]) -> list[Column]:
    """Every episode of the rows once, in order."""
    columns = {_key(one): one for row in rows for one in row.even}
    return [columns[key] for key in sorted(columns)]


def _shared(view: str, file: str, title: str, rows: Sequence[RowInside]) -> Figure:
    ordered = _episodes(rows)
    of_support = view in next(one for one in ordered if view in one.maps).on_support
    label = "support" if of_support else "query, truth"
    pictures = [
        marked(one.support, one.support_mask) if of_support else marked(one.query, one.truth)
        for one in ordered
    ]
    tiles = [TileRow(label, pictures)]
    for row in rows:
        own = {_key(one): one for one in row.even}
        tiles.append(_map_row(row.name, view, [own.get(_key(one)) for one in ordered]))
    caption = f"{title}, {view}: {', '.join(row.name for row in rows)} on the same episodes."
    heads = heads_of(ordered)
    return Figure(
        file,
        caption,
        lambda: sheet(tiles, heads),
        episode_table(file, caption, ordered, scored=False),
        arrays_of({f"{row.name}: ": row.even for row in rows}, view),
        picture=True,
    )


def label_figure(name: str, title: str, row: RowInside) -> Figure:
    """Training images, the labels that a method computed, and those outside of base classes."""
    images = row.labelled
    tiles = [
        TileRow("training image, base classes", [_with_truth(one) for one in images]),
        TileRow("pseudo mask", [one.labels.numpy() for one in images], "labels"),
        TileRow("pseudo mask outside base classes", [_outside(one) for one in images], "labels"),
    ]
    caption = (
        f"{title}: pseudo masks of {row.name}. A colour is a cluster of objects, without a meaning "
        "of its own; dark is background. The last row has only the pixels that no base class "
        "covers: latent novel classes."
    )
    heads = [str(number) for number in range(1, len(images) + 1)]
    lines = []
    for number, one in enumerate(images, 1):
        values, counts = np.unique(one.labels.numpy(), return_counts=True)
        for label, count in zip(values.tolist(), counts.tolist(), strict=True):
            lines.append(Line((str(number), str(label), Value(count, 0))))
    headings = (*text_headings("image", "label"), Heading("pixels"))
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, one in enumerate(images, 1):
        arrays[f"{number} labels"] = one.labels.numpy()
        if one.truth is not None:
            arrays[f"{number} base classes"] = one.truth.numpy().astype(np.uint8)
    data = Table(name, caption, headings, tuple(lines))
    return Figure(name, caption, lambda: sheet(tiles, heads), data, arrays, picture=True)


# ------------------------------------------------------------------ tiles


def marked(image: Pixels, mask: Mask) -> Pixels:
    """The image at the size of a tile, with its mask drawn in."""
    height, width = image.shape[:2]
    share = min(1.0, PIXELS / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    small = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    label = Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return overlaid(np.asarray(small), np.asarray(label))


def heads_of(columns: Sequence[Column]) -> list[str]:
    """The class of each column, with its fold if there are several."""
    several = len({one.fold for one in columns}) > 1
    return [f"fold {one.fold}: {one.name}" if several else one.name for one in columns]


def _predictions(label: str, columns: Sequence[Column | None]) -> TileRow:
    return TileRow(
        label,
        [None if one is None else marked(one.query, one.prediction) for one in columns],
        texts=["" if one is None else f"IoU {shown(100 * one.iou, 1)}" for one in columns],
    )


def _map_row(label: str, view: str, columns: Sequence[Column | None]) -> TileRow:
    kind = next(one.scales[view] for one in columns if one is not None and view in one.scales)
    tiles = [None if one is None else one.shown.get(view) for one in columns]
    return TileRow(label, tiles, kind)


def _key(one: Column) -> tuple[int, int, int]:
    return one.fold, one.seed, one.episode


def _with_truth(one: LabelledImage) -> Pixels:
    image = one.image.permute(1, 2, 0).numpy()
    if one.truth is None:
        return marked(image, np.zeros(image.shape[:2]))
    truth = one.truth.numpy()
    return marked(image, np.where(truth == IGNORE, IGNORE, truth > 0))


def _outside(one: LabelledImage) -> npt.NDArray[np.uint8]:
    labels = one.labels.numpy()
    return labels if one.truth is None else np.where(one.truth.numpy() == 0, labels, 0)


# ------------------------------------------------------------------ files


def episode_table(name: str, caption: str, columns: Sequence[Column], scored: bool = True) -> Table:
    """What each column of a figure shows."""
    texts = ("column", "fold", "episode seed", "episode", "class", "query", "support")
    lines = []
    for number, one in enumerate(columns, 1):
        cells = (number, one.fold, one.seed, one.episode, one.name, one.query_key, one.support_key)
        iou = (Value(100 * one.iou),) if scored else ()
        lines.append(Line((*map(str, cells), *iou)))
    headings = (*text_headings(*texts), *((Heading("IoU, %"),) if scored else ()))
    return Table(name, caption, headings, tuple(lines))


def arrays_of(
    groups: Mapping[str, Sequence[Column]], only: str = ""
) -> dict[str, npt.NDArray[Any]]:
    """Name -> map [h, w] on the method's grid over the padded input, and the prediction [H, W].

    A name starts with that of its group, then has fold, seed and episode.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    for prefix, columns in groups.items():
        for one in columns:
            start = f"{prefix}fold {one.fold} seed {one.seed} episode {one.episode}"
            for view, values in one.maps.items():
                if only in ("", view):
                    found[f"{start} {view}"] = values.round(4)
            if not only:
                found[f"{start} prediction"] = one.prediction
    return found


def file_names(labels: Sequence[str]) -> list[str]:
    """The labels as parts of file names, all different: letters, digits and hyphens."""
    found: list[str] = []
    for label in labels:
        plain = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "row"
        name, number = plain, 2
        while name in found:
            name, number = f"{plain}-{number}", number + 1
        found.append(name)
    return found
