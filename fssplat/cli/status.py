"""`fssplat status`: show the state of every trial of an experiment."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssplat.cli.options import (
    ANY_EXPERIMENT,
    CHANGES,
    GANTT,
    SET,
    STORE,
    require_experiment,
    require_no_store,
    require_png,
    writing,
)
from fssplat.cli.store_status import existing_store, print_store
from fssplat.common.printing import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fssplat.common.printing import Screen
    from fssplat.launching.launch import Request
    from fssplat.planning.plan import Plan
    from fssplat.results.store import Store

LEAST_WIDTH = 60  # terminal columns for state, id and reason; the title of the trial comes on top


def status(
    experiment: Path | None = ANY_EXPERIMENT,
    changes: list[str] = SET,
    store_address: str = STORE,
    every: bool = typer.Option(False, "--all", help="Also list finished and pending trials."),
    check: bool = typer.Option(
        False,
        "--check",
        help="Compare every file of a result with its checksum; exit code 1 if one differs.",
    ),
    gantt: Path | None = GANTT,
    since: bool = CHANGES,
) -> None:
    """Show which trials are finished, running, failed or pending: fssplat status X.yaml

    Without a file: the launches that run, and all experiments of the store: fssplat status
    """
    require_png(gantt)
    require_no_store(store_address if experiment else "")
    if experiment is None:
        given = {"--gantt F.png": gantt, "--changes": since, "--check": check, "--all": every}
        require_experiment("status", {**given, "--set KEY=VALUE": changes})
        print_store(existing_store(store_address, "status"), store_address)
        return
    from fssplat.common.printing import Screen
    from fssplat.launching.launch import Request, plan_from
    from fssplat.planning.gantt import draw_results

    request = Request(experiment, tuple(changes))
    plan, store = plan_from(request)
    console = Screen()
    print_states(request, plan, store, console, every)
    if gantt is not None:
        with writing(gantt):
            missing = draw_results(plan, store.results(plan.trials), gantt)
        console.print(missing, end="\n" if missing else "")
    if since:
        print_changes(plan, store, console)
    if check and not is_whole(request, plan, store, console):
        raise typer.Exit(1)


def print_states(
    request: "Request", plan: "Plan", store: "Store", console: "Screen", every: bool
) -> None:
    """Print how many trials are in each state, and those that need a look, or every one."""
    from collections import Counter

    from fssplat.launching.launch import stale_note, trial_states

    found = trial_states(plan, store)
    counts = Counter(state for state, _ in found.values())
    line = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    console.print(
        f"{plan.experiment.name}: {counted(len(found), 'trial')}, {line}. "
        f"Store: {store.shown_address}"
    )
    rows = [
        (state, plan.trials[trial_id].title, trial_id, reason)
        for trial_id, (state, reason) in found.items()
        if every or state not in ("finished", "pending") or reason
    ]
    if rows:
        console.print(status_table(rows, console.width))
    failed = [one for one, (state, _) in found.items() if state in ("failed", "diverged")]
    if failed:
        console.print(f"To see what a trial printed: {request.command('logs')} {failed[0]}")
    console.print(stale_note(request, plan, store), end="")


def print_changes(plan: "Plan", store: "Store", console: "Screen") -> None:
    """Print what differs between now and the making of each result; equal answers only once."""
    from fssplat.planning.changes import changes_since

    groups: dict[tuple[str, ...], list[str]] = {}
    for trial_id, result in store.results(plan.trials).items():
        lines = tuple(changes_since(store, plan.trials[trial_id], result))
        groups.setdefault(lines, []).append(trial_id)
    for lines, ids in groups.items():
        made = f"{counted(len(ids), 'result')} {'was' if len(ids) == 1 else 'were'} made"
        console.print(f"\nChanges since {made}:{'' if lines else ' none'}")
        for line in lines:
            console.print(f"    {line}")
        for trial_id in ids:
            console.print(f"  {trial_id}  {plan.trials[trial_id].title}")


def is_whole(request: "Request", plan: "Plan", store: "Store", console: "Screen") -> bool:
    """Print which files of results differ from their checksums. Returns whether none does."""
    from fssplat.results.maintenance import damaged_files

    wrong, unchecked = damaged_files(plan.trials, store)
    for name, problem in wrong.items():
        console.print(f"{store.shown_address}/{name} {problem}")
    if unchecked:
        console.print(f"Older than checksums, with right sizes: {counted(unchecked, 'result')}.")
    if not wrong:
        console.print("Every file with a checksum is as it was written.")
        return True
    ids = ",".join(dict.fromkeys(name.partition("/")[0] for name in wrong))
    console.print(f"To compute these results again: {request.command()} --rerun id={ids}")
    return False


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
