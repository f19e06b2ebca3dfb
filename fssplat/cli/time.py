"""`fssplat time`: measure what one episode of each method costs on this machine."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def time(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    again: bool = typer.Option(False, help="Measure also what was measured on this hardware."),
    episodes: int = typer.Option(20, min=1, help="Episodes to time, for each number of shots."),
) -> None:
    """Time one episode of each method: fssplat time experiments/ablations/jc2a_table4.yaml

    One episode at a time, nothing cached, nothing beside it: milliseconds of a 1-shot and a 5-shot
    episode, and the memory above the idle process. No training is needed. Times are kept in the
    store under the name of the hardware.
    """
    from fssplat.common.printing import Screen, say
    from fssplat.launching.launch import Request, page, plan_from
    from fssplat.report.evidence.timings import times_of
    from fssplat.report.terminal.efficiency import cost_tables
    from fssplat.results.store import Store
    from fssplat.worker.timing import Amount, time_methods

    plan, _ = plan_from(Request(experiment, tuple(changes)))
    store = Store.open(plan.experiment.store)
    hardware = time_methods(plan, store, say, again, Amount(episodes))
    times = times_of(plan.trials, store.timings())
    here = {name: known for name, known in times.items() if name == hardware}
    page(Screen()).print(cost_tables(plan.trials, store.results(plan.trials), here))
