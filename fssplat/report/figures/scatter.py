"""Points with their names beside them."""

from collections.abc import Sequence
from typing import Any

from fssplat.report.figures.style import INK, colour, drawable, figure, marker

Point = tuple[str, float, float]


def labelled_points(points: Sequence[Point], x_axis: str, y_axis: str) -> Any:
    """Points by name on a logarithmic x axis; a line joins those with the best y so far."""
    with figure(3.2) as (made, axes):
        front = pareto_front(points)
        if len(front) > 1:
            axes.plot(*zip(*(one[1:] for one in front), strict=True), color=INK, alpha=0.4, lw=1)
        for index, (name, x, y) in enumerate(points):
            axes.plot([x], [y], marker(index), color=colour(index), label=drawable(name), ms=8)
        axes.set_xscale("log")
        for each in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            each(lambda value, _: f"{value:g}")
        axes.margins(0.15)
        axes.set_xlabel(x_axis)
        axes.set_ylabel(y_axis)
        made.legend(loc="outside right upper")
        return made


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points with no other at most as far right and higher, from left to right."""
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one[1], -one[2])):
        if not front or point[2] > front[-1][2]:
            front.append(point)
    return front
