"""The points of a search: their values in order, and their settings side by side."""

import math
from collections.abc import Sequence
from typing import Any

from fssplat.report.evidence.study import Setting, StudyParameter, StudyPoint
from fssplat.report.figures.style import INK, colour, drawable, figure

MOST_TICKS = 6  # of a choice; more are left out, evenly


def history(points: Sequence[StudyPoint], axis: str) -> Any:
    """The mIoU in per cent of each complete point by its number, and the best one so far."""
    with figure(2.8) as (made, axes):
        values = [100 * one.values["miou"] for one in points]
        best = [max(values[: n + 1]) for n in range(len(values))]
        numbers = [one.number for one in points]
        axes.step(numbers, best, where="post", color=INK, lw=1, label="best so far")
        axes.plot(numbers, values, "o", color=colour(0), ms=5, label="a point")
        shown = [(n, v) for n, v, one in zip(numbers, values, points, strict=True)
                 if one.is_default]  # fmt: skip
        if shown:
            axes.plot(*zip(*shown, strict=True), "D", color=colour(4), ms=8, label="the default")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("point")
        axes.set_ylabel(axis)
        made.legend(loc="outside upper left", ncols=3)
        return made


def parallel_coordinates(
    points: Sequence[StudyPoint], parameters: Sequence[StudyParameter], axis: str
) -> Any:
    """A line per complete point over one axis per setting; the colour is its mIoU."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    values = [100 * one.values["miou"] for one in points]
    scale = Normalize(min(values), max(values) + (min(values) == max(values)))
    shades = colormaps["viridis"]
    with figure(3.6) as (made, axes):
        axes.grid(visible=False)
        axes.set_xlim(-0.3, len(parameters) - 0.4)
        axes.set_ylim(-0.06, 1.06)
        scales = [_Scale(one, points) for one in parameters]
        for place, each in enumerate(scales):
            _axis(axes, place, each)
        for point, value in sorted(zip(points, values, strict=True), key=lambda pair: pair[1]):
            heights = [each.height(point.settings.get(each.name)) for each in scales]
            known = [(x, y) for x, y in enumerate(heights) if y is not None]
            if known:
                xs, ys = zip(*known, strict=True)
                axes.plot(xs, ys, color=shades(scale(value)), alpha=0.8, marker="o", ms=3, lw=1.2)
        axes.set_xticks(range(len(scales)), [_wrapped(each.name) for each in scales])
        axes.tick_params(axis="x", length=0)
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        made.colorbar(ScalarMappable(scale, shades), ax=axes, label=axis, pad=0.02)
        return made


class _Scale:
    """Places the values of a setting between 0 and 1."""

    def __init__(self, parameter: StudyParameter, points: Sequence[StudyPoint]) -> None:
        self.name, self.kind = parameter.name, parameter.kind
        self.choices = list(parameter.choices)
        settings = [one.settings[self.name] for one in points if self.name in one.settings]
        numbers = [self._number(one) for one in settings if _is_number(one)]
        self.low, self.high = min(numbers, default=0.0), max(numbers, default=1.0)

    def height(self, value: Setting) -> float | None:
        """None if the point does not use the setting."""
        if value is None and self.kind != "choice":
            return None
        if self.kind == "choice":
            if str(value) not in self.choices:
                return None
            return _share(self.choices.index(str(value)), 0, len(self.choices) - 1)
        return _share(self._number(value), self.low, self.high)

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and their texts."""
        if self.kind == "choice":
            step = -(-len(self.choices) // MOST_TICKS)
            last = len(self.choices) - 1
            return [
                (_share(i, 0, last), self.choices[i]) for i in range(0, len(self.choices), step)
            ]
        ends = {0.0: self.low, 0.5: (self.low + self.high) / 2, 1.0: self.high}
        if self.low == self.high:
            ends = {0.5: self.low}
        back = math.exp if self.kind == "logarithm" else float
        return [(height, f"{back(value):.2g}") for height, value in ends.items()]

    def _number(self, value: Setting) -> float:
        assert isinstance(value, int | float)
        return math.log(value) if self.kind == "logarithm" else float(value)


def _axis(axes: Any, place: int, scale: _Scale) -> None:
    axes.plot([place, place], [0, 1], color=INK, lw=0.8, zorder=0)
    for height, text in scale.ticks():
        axes.annotate(
            drawable(text), (place, height), (4, 0), textcoords="offset points", va="center",
            fontsize="small", color=INK,
        )  # fmt: skip


def _share(value: float, low: float, high: float) -> float:
    return 0.5 if low == high else (value - low) / (high - low)


def _is_number(value: Setting) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrapped(name: str) -> str:
    """A dotted name on two lines."""
    head, dot, tail = drawable(name).rpartition(".")
    return f"{head}{dot}\n{tail}" if dot else tail
