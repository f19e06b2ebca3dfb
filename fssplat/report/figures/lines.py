"""Lines over named places, and ranges of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from fssplat.report.figures.style import colour, drawable, figure, marker

WIDE = 6  # places above which their names are turned


def lines(
    places: Sequence[str], series: Mapping[str, Sequence[float | None]], x_axis: str, y_axis: str
) -> Any:
    """One line per series with a marker at each place; a missing number leaves a gap."""
    with figure(3.4) as (made, axes):
        for index, (name, values) in enumerate(series.items()):
            heights = [float("nan") if value is None else value for value in values]
            axes.plot(
                range(len(places)), heights, marker(index) + "-", color=colour(index),
                label=drawable(name), ms=5, lw=1.2,
            )  # fmt: skip
        turned = {"rotation": 30, "ha": "right"} if len(places) > WIDE else {}
        axes.set_xticks(range(len(places)), list(map(drawable, places)), **turned)
        axes.set_xlabel(x_axis)
        axes.set_ylabel(y_axis)
        axes.margins(x=0.05)
        made.legend(loc="outside upper center", ncols=min(4, max(1, len(series))))
        return made


def ranges(labels: Sequence[str], ends: Sequence[tuple[float, float, float]], axis: str) -> Any:
    """A bar from the first to the last number of each label, and a point at the middle one."""
    with figure(max(1.6, 0.8 + 0.32 * len(labels))) as (made, axes):
        for place, (low, middle, high) in enumerate(ends):
            axes.plot([low, high], [place, place], color=colour(0), lw=5, alpha=0.45)
            axes.plot([middle], [place], "o", color=colour(0), ms=6)
        axes.set_yticks(range(len(labels)), list(map(drawable, labels)))
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_xlabel(axis)
        axes.grid(axis="y", visible=False)
        return made
