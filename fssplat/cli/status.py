"""`fssplat status`: show the state of every trial of an experiment."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssplat.cli.options import ANY_EXPERIMENT, SET, STORE
from fssplat.cli.store_status import existing_store, print_store

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST_WIDTH = 60  # terminal columns for state, id and reason; the title of the trial comes on top


def status(
    experiment: Path | None = ANY_EXPERIMENT,
    changes: list[str] = SET,
    store_address: str = STORE,
    every: bool = typer.Option(False, "--all", help="Also list finished and pending trials."),
) -> None:
    """Show which trials are finished, running, failed or pending: fssplat status X.yaml

    Without a file: the launches that run, and all experiments of the store: fssplat status
    """
    if experiment is None:
        print_store(existing_store(store_address, "status"), store_address)
        return
    from collections import Counter

    from fssplat.common.printing import Screen
    from fssplat.launching.launch import Request, plan_from, trial_states

    plan, store = plan_from(Request(experiment, tuple(changes)))
    found = trial_states(plan, store)
    counts = Counter(state for state, _ in found.values())
    line = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    console = Screen()
    console.print(f"{plan.experiment.name}: {len(found)} trials, {line}. Store: {store.address}")
    rows = [
        (state, plan.trials[trial_id].title, trial_id, reason)
        for trial_id, (state, reason) in found.items()
        if every or state not in ("finished", "pending") or reason
    ]
    if rows:
        console.print(status_table(rows, console.width))


def status_table(rows: list[tuple[str, str, str, str]], width: int) -> "RenderableType":
    """Table of state, title, id and reason of trials; one cell for the last three if too narrow.

    Lines break between words.
    """
    from rich.table import Table

    titles = max(len(title) for _, title, _, _ in rows)
    beside = width - titles - LEAST_WIDTH
    table = Table(box=None, pad_edge=False)
    for heading in ("state", "trial", "id", "why") if beside > 0 else ("state", "trial, id, why"):
        table.add_column(heading)
    for state, title, trial_id, reason in rows:
        if beside > 0:
            table.add_row(state, title, trial_id, reason)
        else:
            table.add_row(state, "\n".join(filter(None, (title, trial_id, reason))))
    return table
