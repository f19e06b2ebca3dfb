"""The cost of each method: its parameters, and the time and memory of one episode.

Times are those of `fssplat time`, which measures one episode at a time on one kind of hardware. The
speed of an evaluation is another number: it reuses features and segments several episodes at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fssplat.experiment.trial import Trial
from fssplat.results.records import Result, ShotTime, Timing

Place = tuple[str, str]  # data set, backbone
Times = Mapping[str, Mapping[str, Timing]]  # hardware -> trial id -> timing
COUNTS = ("learnable_parameters", "test_parameters", "total_parameters")
BUSY = 0.5  # processes per core; a time that was measured beside more is doubtful


@dataclass
class MethodCost:
    """A row of the table; what is not known is missing."""

    parameters: dict[str, float]
    shots: Mapping[int, ShotTime]


def cost_tables(
    trials: Mapping[str, Trial], results: Mapping[str, Result], times: Times
) -> RenderableType:
    """A table per hardware, data set and backbone, with a row per method and number of shots.

    A speed is the time of the table's first row divided by the row's own.
    """
    parts: list[RenderableType] = []
    for hardware in times or {"": {}}:
        of_hardware = times.get(hardware, {})
        for place, costs in _by_place(trials, results, of_hardware).items():
            parts += [_table(place, hardware, costs), *_remarks(of_hardware), Text("")]
    return Group(*parts)


def _by_place(
    trials: Mapping[str, Trial], results: Mapping[str, Result], times: Mapping[str, Timing]
) -> dict[Place, dict[str, MethodCost]]:
    """Data set and backbone -> method -> its cost, in the order of the trials."""
    found: dict[Place, dict[str, MethodCost]] = {}
    for trial_id, trial in trials.items():
        place = (trial.dataset.name, trial.backbone.name)
        cost = found.setdefault(place, {}).setdefault(trial.method.label, MethodCost({}, {}))
        metrics = results[trial_id].metrics if trial_id in results else {}
        cost.parameters |= {name: metrics[name] for name in COUNTS if name in metrics}
        if trial_id in times:
            cost.parameters |= times[trial_id].parameters
            cost.shots = times[trial_id].shots
    return found


def _table(place: Place, hardware: str, costs: Mapping[str, MethodCost]) -> Table:
    where = f", one episode at a time on {hardware}" if hardware else ""
    table = Table(
        title=f"cost: {', '.join(place)}{where}",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        caption="learnable, at test, in all: parameters in millions",
        caption_justify="left",
    )
    table.add_column("method", overflow="fold")
    headings = ["learnable", "at test", "in all"]
    if hardware:
        headings = [*headings, "shot", "ms", "quartiles", "speed", "MB"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    first = next((cost.shots for cost in costs.values() if cost.shots), {})
    base = first[min(first)].median_ms if first else 0.0
    for method, cost in costs.items():
        counts = [_millions(cost.parameters.get(name)) for name in COUNTS]
        cells = list(_times(cost, base)) if hardware else [[]]
        table.add_row(method, *counts, *cells[0])
        for more in cells[1:]:
            table.add_row("", *[""] * len(COUNTS), *more)
    return table


def _times(cost: MethodCost, base: float) -> Iterator[list[str]]:
    """The cells of each number of shots; of none if the method has no time."""
    for shot, one in sorted(cost.shots.items()):
        spread = f"{_ms(one.lower_ms)}-{_ms(one.upper_ms)}"
        memory = f"{one.memory / 1e6:.0f}" if one.memory else "-"
        speed = f"{base / one.median_ms:.2f}" if one.median_ms else "-"
        yield [str(shot), _ms(one.median_ms), spread, speed, memory]
    if not cost.shots:
        yield ["-"] * 5


def _remarks(times: Mapping[str, Timing]) -> list[RenderableType]:
    busy = max((one.busy for one in times.values()), default=0.0)
    if busy <= BUSY:
        return []
    return [
        Text(
            f"This machine was in use before the measurement ({busy:.1f} processes per core): "
            "times may be too long. Measure again with --again."
        )
    ]


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _millions(count: float | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f}"
