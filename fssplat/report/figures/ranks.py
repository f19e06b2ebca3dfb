"""Critical-difference diagrams: Demsar, Statistical Comparisons of Classifiers, JMLR 7, 2006."""

from collections.abc import Sequence
from typing import Any

from fssplat.report.figures.style import INK, drawable, figure
from fssplat.report.statistics.multiple import Ranking

BAR_LEVEL, BAR_STEP = -0.25, 0.2  # of the bars below the axis, in rows of names


def critical_differences(names: Sequence[str], found: Ranking) -> Any:
    """Mean ranks on a line, names at both sides, bars that join what does not differ."""
    order = sorted(range(len(names)), key=lambda i: (found.ranks[i], i))
    count = len(order)
    bars = found.groups()
    half = (count + 1) // 2
    start = BAR_LEVEL - BAR_STEP * len(bars) - 0.35  # of the first name
    with figure(height=0.9 + 0.28 * half + 0.12 * len(bars)) as (made, axes):
        axes.set_axis_off()
        axes.set_xlim(0.2, count + 0.8)
        axes.set_ylim(start - 0.9 * half, 1.6)
        _axis(axes, count, found.critical)
        for number, (first, last) in enumerate(bars):
            ends = [found.ranks[order[first]] - 0.04, found.ranks[order[last]] + 0.04]
            level = BAR_LEVEL - BAR_STEP * number
            axes.plot(ends, [level, level], color="#d55e00", lw=3, solid_capstyle="butt")
        for place, index in enumerate(order):
            left = place < half
            level = start - 0.9 * (place if left else count - 1 - place)
            rank, end = found.ranks[index], (0.9 if left else count + 0.1)
            axes.plot([rank, rank, end], [0, level, level], color=INK, lw=0.8)
            text = f"{drawable(names[index])}  {rank:.2f}"
            side = "right" if left else "left"
            axes.text(end + (-0.03 if left else 0.03), level, text, ha=side, va="center")
        return made


def _axis(axes: Any, count: int, critical: float) -> None:
    """The scale of ranks, and the critical difference as a bar above it."""
    axes.plot([1, count], [0, 0], color=INK, lw=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.15], color=INK, lw=1)
        axes.text(rank, 0.22, str(rank), ha="center", va="bottom")
    axes.plot([1, 1 + critical], [1.15, 1.15], color=INK, lw=1.5)
    axes.text(1 + critical / 2, 1.22, f"CD {critical:.2f}", ha="center", va="bottom")
