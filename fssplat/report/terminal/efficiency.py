"""The cost of each method: learnable parameters, memory, and speed as a ratio to the first row.

Speeds can be compared only if runs did not share a machine: `resources: {max_concurrent: 1}`.
"""

from collections.abc import Mapping
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.table import Table

from fssplat.experiment.trial import Trial
from fssplat.results.records import Result

RowKey = tuple[str, str, str, int]  # data set, backbone, method, shot


def cost_table(trials: Mapping[str, Trial], results: Mapping[str, Result]) -> Table:
    """A row per data set, backbone, method and shot: the mean over its finished trials.

    A speed is divided by that of the first row of the same data set and backbone.
    """
    found: dict[RowKey, list[Mapping[str, float]]] = {}
    for trial_id, trial in trials.items():
        if trial_id in results:
            key = (trial.dataset.name, trial.backbone.name, trial.method.label, trial.shot)
            found.setdefault(key, []).append(results[trial_id].metrics)
    table = Table(title="cost", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("data", "backbone", "method"):
        table.add_column(heading)
    for heading in ("shot", "learnable M", "GPU MB", "episodes/s", "speed"):
        table.add_column(heading, justify="right", no_wrap=True)
    first: dict[tuple[str, str], float] = {}
    for (data, backbone, method, shot), several in found.items():
        speed = _mean(several, "episodes_per_s")
        base = first.setdefault((data, backbone), speed)
        memory = _mean(several, "peak_memory_bytes") / 1e6
        table.add_row(
            data,
            backbone,
            method,
            str(shot),
            f"{_mean(several, 'learnable_parameters') / 1e6:.2f}",
            f"{memory:.0f}" if memory else "-",
            f"{speed:.2f}",
            f"{speed / base:.2f}" if base else "-",
        )
    return table


def _mean(several: list[Mapping[str, float]], name: str) -> float:
    return fmean(one.get(name, 0.0) for one in several)
