"""Points in a plane by class: one panel per method and fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fssplat.report.figures.style import PALETTE, WIDTH, colour, drawable, marker, own_style

PANEL, HEAD, LEGEND, LABEL = 1.6, 0.25, 1.25, 0.25  # inches


@dataclass(frozen=True)
class Panel:
    """The points of one method on one fold."""

    points: npt.NDArray[np.float64]  # [i, 2]
    classes: Sequence[str]  # of each point


def panels(
    grid: Sequence[Sequence[Panel | None]], rows: Sequence[str], heads: Sequence[str]
) -> Any:
    """Rows of panels with a legend for each row; axes have no scale, since t-SNE gives none."""
    from matplotlib.figure import Figure

    side = min(PANEL, (WIDTH - LEGEND - LABEL) / max(1, len(heads)))
    width, height = LABEL + side * len(heads) + LEGEND, HEAD + side * len(grid)
    with own_style():
        made = Figure(figsize=(width, height))
        for number, head in enumerate(heads):
            left = (LABEL + side * (number + 0.5)) / width
            made.text(left, 1 - HEAD / 2 / height, drawable(head), ha="center", va="center", size=8)
        for line, (label, cells) in enumerate(zip(rows, grid, strict=True)):
            bottom = height - HEAD - side * (line + 1)
            middle = (bottom + side / 2) / height
            made.text(0.1 / width, middle, drawable(label), rotation=90, va="center", size=8)
            names = sorted({name for cell in cells if cell is not None for name in cell.classes})
            for number, cell in enumerate(cells):
                place = (LABEL + side * number + 0.03, bottom + 0.03, side - 0.06, side - 0.06)
                axes = made.add_axes(_shares(place, (width, height)))
                axes.set(xticks=[], yticks=[])
                axes.spines[["right", "top"]].set_visible(True)
                if cell is not None:
                    _draw(axes, cell, names)
            _legend(made, names, (width - LEGEND + 0.05) / width, middle)
        return made


def _shares(
    place: tuple[float, float, float, float], size: tuple[float, float]
) -> tuple[float, float, float, float]:
    left, bottom, width, height = place
    return left / size[0], bottom / size[1], width / size[0], height / size[1]


def _draw(axes: Any, cell: Panel, names: Sequence[str]) -> None:
    classes = np.array(cell.classes)
    dots = 14 if len(classes) <= 300 else 5
    for index, name in enumerate(names):
        x, y = cell.points[classes == name].T
        axes.scatter(x, y, s=dots, lw=0, alpha=0.8, **_look(index))
    axes.margins(0.06)


def _look(index: int) -> dict[str, Any]:
    return {"color": colour(index), "marker": marker(index // len(PALETTE))}


def _legend(made: Any, names: Sequence[str], left: float, middle: float) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ls="", ms=4, label=drawable(name)[:18], **_look(index))
        for index, name in enumerate(names)
    ]
    size = 7 if len(names) <= 10 else 4.5
    made.add_artist(
        made.legend(
            handles=handles, loc="center left", bbox_to_anchor=(left, middle), fontsize=size,
            handletextpad=0.2, borderpad=0, labelspacing=0.3,
        )
    )  # fmt: skip
