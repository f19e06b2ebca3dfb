"""Bars: one group per label, one bar per series."""

from collections.abc import Mapping, Sequence
from typing import Any

from fssplat.report.figures.style import colour, drawable, figure

BAR = 0.16  # inches


def horizontal_bars(
    labels: Sequence[str], series: Mapping[str, Sequence[float | None]], axis: str
) -> Any:
    """Groups of horizontal bars, the first label on top; a missing number has no bar."""
    count = max(1, len(series))
    height = max(1.6, 0.7 + len(labels) * (count * BAR + 0.12))
    with figure(height) as (made, axes):
        for index, (name, values) in enumerate(series.items()):
            shift = (index - (count - 1) / 2) * 0.8 / count
            places = [i + shift for i, value in enumerate(values) if value is not None]
            known = [value for value in values if value is not None]
            axes.barh(places, known, 0.8 / count, color=colour(index), label=drawable(name))
        axes.set_yticks(range(len(labels)), list(map(drawable, labels)))
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        axes.grid(axis="y", visible=False)
        if len(series) > 1:
            made.legend(loc="outside upper center", ncols=min(4, count))
        return made


def stacked_bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], axis: str) -> Any:
    """A horizontal bar per label, the first on top; each series adds a part to its right end."""
    with figure(max(1.6, 1.0 + 0.32 * len(labels))) as (made, axes):
        ends = [0.0] * len(labels)
        for index, (name, values) in enumerate(series.items()):
            axes.barh(
                range(len(labels)), values, 0.7, left=ends, color=colour(index),
                label=drawable(name),
            )  # fmt: skip
            ends = [end + value for end, value in zip(ends, values, strict=True)]
        axes.set_yticks(range(len(labels)), list(map(drawable, labels)))
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        axes.grid(axis="y", visible=False)
        made.legend(loc="outside upper center", ncols=len(series))
        return made
