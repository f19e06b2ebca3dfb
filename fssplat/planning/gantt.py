"""A plan as a chart: devices and hours."""

from pathlib import Path

from fssplat.planning.plan import Plan


def draw_gantt(plan: Plan, path: Path) -> None:
    """Write a picture: a line per device, a bar per job over its hours, a colour per method."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    methods = sorted({item.planned.job.first.method.label for item in plan.placements})
    palette = colormaps["tab10"]
    colours = {name: palette(index % 10) for index, name in enumerate(methods)}
    figure = Figure(figsize=(10, min(20.0, 1.5 + 0.25 * plan.devices)), layout="constrained")
    axes = figure.subplots()
    for name in methods:
        bars = [p for p in plan.placements if p.planned.job.first.method.label == name]
        axes.barh(
            [p.device for p in bars],
            [p.planned.seconds / 3600 for p in bars],
            left=[p.start_s / 3600 for p in bars],
            color=colours[name],
            edgecolor="white",
            linewidth=0.3,
        )
    axes.set(xlabel="hours", ylabel="device", title=f"{plan.experiment.name}: planned")
    axes.invert_yaxis()
    axes.legend(handles=[Patch(color=colours[name], label=name) for name in methods], fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
