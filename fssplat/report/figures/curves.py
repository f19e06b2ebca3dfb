"""Curves over the steps of trainings: a panel per method, a line per fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fssplat.report.figures.style import INK, colour, drawable, panels

PANEL_HEIGHT = 1.9  # inches
COLUMNS = 3


@dataclass(frozen=True)
class Curve:
    """One line, over the training seeds of one fold."""

    name: str
    steps: Sequence[int]
    mean: Sequence[float]
    low: Sequence[float]  # over training seeds
    high: Sequence[float]
    resumed: Sequence[int] = ()  # steps
    diverged: Sequence[int] = ()


@dataclass(frozen=True)
class Panel:
    name: str
    curves: Sequence[Curve]


def training_curves(shown: Sequence[Panel], y_axis: str) -> Any:
    """Panels side by side, each with its own range of values."""
    names = list(dict.fromkeys(curve.name for panel in shown for curve in panel.curves))
    with panels(len(shown), COLUMNS, PANEL_HEIGHT) as (made, all_axes):
        for axes, panel in zip(all_axes, shown, strict=True):
            axes.set_title(drawable(panel.name), loc="left", fontsize="medium")
            for curve in panel.curves:
                _draw(axes, curve, colour(names.index(curve.name)))
        made.supxlabel("step", fontsize="medium")
        made.supylabel(y_axis, fontsize="medium")
        _legend(made, names, [curve for panel in shown for curve in panel.curves])
        return made


def _draw(axes: Any, curve: Curve, shade: str) -> None:
    axes.plot(curve.steps, curve.mean, color=shade, lw=1.3, marker="." if _short(curve) else "")
    if list(curve.low) != list(curve.high):
        axes.fill_between(curve.steps, curve.low, curve.high, color=shade, alpha=0.25, lw=0)
    for steps, marker in ((curve.resumed, "^"), (curve.diverged, "X")):
        places = [_nearest(curve, step) for step in steps]
        axes.plot(
            [curve.steps[i] for i in places], [curve.mean[i] for i in places], marker,
            color=shade, ms=7, markeredgecolor=INK, markeredgewidth=0.7, zorder=3,
        )  # fmt: skip


def _legend(made: Any, names: Sequence[str], curves: Sequence[Curve]) -> None:
    """Colours of the folds, and the marks that occur."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour(i), label=drawable(n)) for i, n in enumerate(names)]
    for marker, label, occurs in (
        ("^", "resumed", any(curve.resumed for curve in curves)),
        ("X", "diverged", any(curve.diverged for curve in curves)),
    ):
        if occurs:
            handles.append(Line2D([], [], ls="", marker=marker, color=INK, label=label))
    made.legend(handles=handles, loc="outside upper left", ncols=6)


def _short(curve: Curve) -> bool:
    return len(curve.steps) <= 12


def _nearest(curve: Curve, step: int) -> int:
    """The index of the point whose step is nearest."""
    return min(range(len(curve.steps)), key=lambda i: abs(curve.steps[i] - step))
