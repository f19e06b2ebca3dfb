"""Sheets of small pictures: one column per episode, one row per kind of picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from fssplat.report.figures.style import PALETTE, WIDTH, drawable, own_style

LABEL, BAR, GAP, HEAD = 1.15, 0.62, 0.05, 0.34  # inches: left column, colour bar, gaps, headings
CAPTION = 0.17  # inches above a tile that has a text
PIXELS = 150  # longer side of a tile in the files
BACKGROUND = "#30343a"  # of labels
COLOURS = "viridis"

Values = npt.NDArray[Any]  # uint8 [h, w, 3], or numbers [h, w]
Kind = Literal["picture", "unit", "free", "labels"]


@dataclass(frozen=True)
class TileRow:
    """Pictures side by side; a missing one leaves its place empty."""

    label: str
    tiles: Sequence[Values | None]
    kind: Kind = "picture"  # how `View.scale` says that numbers are coloured
    texts: Sequence[str] = ()  # above each tile

    @property
    def limits(self) -> tuple[float, float]:
        """Values of the two ends of the colours: the row's own, or 0 and 1."""
        if self.kind == "unit":
            return 0.0, 1.0
        known = [tile for tile in self.tiles if tile is not None]
        low = min(float(tile.min()) for tile in known) if known else 0.0
        high = max(float(tile.max()) for tile in known) if known else 1.0
        return low, high if high > low else low + 1.0


def sheet(rows: Sequence[TileRow], heads: Sequence[str]) -> Any:
    """A figure of all rows; a colour bar is beside each row of numbers."""
    from matplotlib.figure import Figure

    count = max(1, len(heads))
    bar = BAR if any(row.kind in ("unit", "free") for row in rows) else 0.0
    side = min(1.3, (WIDTH - LABEL - bar) / count)  # of a tile with its gap, inches
    tall = side * tallest(rows)
    heights = [tall + (CAPTION if row.texts else 0) for row in rows]
    width, height = LABEL + side * count + bar, HEAD + sum(heights)
    with own_style():
        made = Figure(figsize=(width, height))
        top = height - HEAD
        for number, head in enumerate(heads):
            left = LABEL + side * (number + 0.5) - GAP / 2
            text = wrapped(head, int(side * 16), 2)
            made.text(left / width, (top + 0.04) / height, text, ha="center", size=7)
        for row, tile_height in zip(rows, heights, strict=True):
            box = (0.0, top - tile_height, side, tall)
            _row(made, row, box, (width, height))
            top -= tile_height
        return made


def tallest(rows: Sequence[TileRow]) -> float:
    """Height over width of the tallest tile, 0.6 to 1.3."""
    shapes = [tile.shape for row in rows for tile in row.tiles if tile is not None]
    return min(1.3, max([0.6, *(float(shape[0] / shape[1]) for shape in shapes)]))


def _row(
    made: Any, row: TileRow, box: tuple[float, float, float, float], size: tuple[float, float]
) -> None:
    _, bottom, side, tall = box
    width, height = size
    middle = (bottom + tall / 2) / height
    made.text(0.0, middle, wrapped(row.label), va="center", ha="left", size=8, linespacing=1.05)
    painted = None
    for number, tile in enumerate(row.tiles):
        if tile is None:
            continue
        left = LABEL + side * number
        place = (left / width, (bottom + GAP / 2) / height, (side - GAP) / width,
                 (tall - GAP) / height)  # fmt: skip
        axes = made.add_axes(place)
        axes.set_axis_off()
        painted = axes.imshow(small(tile, row.kind), interpolation="none", **_colours(row))
        if row.texts:
            axes.set_title(drawable(row.texts[number]), size=7, pad=2)
    if painted is not None and row.kind in ("unit", "free"):
        left = LABEL + side * len(row.tiles) + 0.04
        place = (left / width, (bottom + tall * 0.12) / height, 0.07 / width, tall * 0.76 / height)
        bar = made.colorbar(painted, cax=made.add_axes(place))
        bar.set_ticks(list(row.limits), labels=[f"{end:.3g}" for end in row.limits])
        bar.ax.tick_params(labelsize=7, length=2, pad=2)
        bar.outline.set_visible(False)


def _colours(row: TileRow) -> dict[str, Any]:
    from matplotlib.colors import ListedColormap

    if row.kind == "picture":
        return {}
    if row.kind == "labels":
        most = int(row.limits[1])
        colours = [BACKGROUND, *(PALETTE[i % len(PALETTE)] for i in range(most))]
        return {"cmap": ListedColormap(colours), "vmin": 0, "vmax": most}
    low, high = row.limits
    return {"cmap": COLOURS, "vmin": low, "vmax": high}


def small(tile: Values, kind: Kind) -> Values:
    """The tile with at most PIXELS on its longer side; labels and numbers keep their values."""
    height, width = tile.shape[:2]
    share = PIXELS / max(height, width)
    if share >= 1:
        return tile
    size = max(1, round(width * share)), max(1, round(height * share))
    if kind == "picture":
        return np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BILINEAR))
    rows = (np.arange(size[1]) + 0.5) * height / size[1]
    columns = (np.arange(size[0]) + 0.5) * width / size[0]
    return np.asarray(tile[rows.astype(int)][:, columns.astype(int)])


def wrapped(label: str, most: int = 17, lines: int = 5) -> str:
    """The label on several lines, broken at spaces; dots end a label that is cut."""
    from textwrap import wrap

    parts = wrap(drawable(label), most)
    if len(parts) > lines:
        parts = [*parts[: lines - 1], parts[lines - 1][: most - 1] + "…"]
    return "\n".join(parts)
