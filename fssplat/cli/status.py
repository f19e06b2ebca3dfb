"""`fssplat status`: where every trial of an experiment stands."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def status(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    every: bool = typer.Option(False, "--all", help="List finished and pending trials as well."),
) -> None:
    """Say what is finished, running, failed or pending, and why: fssplat status X.yaml"""
    from collections import Counter

    from rich.console import Console
    from rich.table import Table

    from fssplat.orchestration.launch import Request, plan_from, standing

    plan, store = plan_from(Request(experiment, tuple(changes)))
    found = standing(plan, store)
    counts = Counter(state for state, _ in found.values())
    line = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    console = Console()
    console.print(f"{plan.experiment.name}: {len(found)} trials, {line}. Store: {store.address}")
    rows = Table(box=None, pad_edge=False)
    for heading in ("state", "trial", "id", "why"):
        rows.add_column(heading, overflow="fold")
    for trial_id, (state, reason) in found.items():
        if every or state not in ("finished", "pending") or reason:
            rows.add_row(state, plan.trials[trial_id].title, trial_id, reason)
    if rows.row_count:
        console.print(rows)
