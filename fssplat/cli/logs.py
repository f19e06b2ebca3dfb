"""`fssplat logs`: show what a job printed, with the traceback of its failure."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssplat.cli.log_text import LAST_LINES, print_log
from fssplat.cli.options import SET, STORE, require_experiment
from fssplat.cli.point_logs import show_points
from fssplat.cli.store_status import DEFAULT_STORE, existing_store
from fssplat.common.errors import InputError
from fssplat.common.passwords import hidden
from fssplat.common.printing import command_line, say

if TYPE_CHECKING:
    from fssplat.planning.plan import Plan
    from fssplat.results.store import Store

TRIAL = re.compile(r"[0-9a-f]{16}")  # the id of a trial
States = Mapping[str, tuple[str, str]]  # state and reason by trial id


def logs(
    target: str = typer.Argument(
        "", help="An experiment file; or, with --store, the id of a trial.", show_default=False
    ),
    trial: str = typer.Argument(
        "",
        help="The id of a trial, its beginning, words of its title; of a search the number of a "
        "point.  [default: all that failed]",
        show_default=False,
    ),
    changes: list[str] = SET,
    store_address: str = STORE,
    lines: int | None = typer.Option(
        None,
        min=1,
        help="Print only the last lines.  "
        f"[default: all lines of one job, {LAST_LINES} of each of several]",
        show_default=False,
    ),
) -> None:
    """Show what jobs printed, and tracebacks: fssplat logs X.yaml hsnet

    Without a trial: those that failed, else those that run. Of a search, the number of a point
    takes the place of a trial.
    """
    if store_address and trial:
        raise typer.BadParameter("give an experiment file with a trial, or a trial with --store")
    if store_address or not target:
        require_experiment("logs", {"--set KEY=VALUE": changes})
        _show_of_store(target, store_address, lines)
        return
    from fssplat.launching.launch import Request, plan_from, trial_states

    request = Request(Path(target), tuple(changes))
    if show_points(request, trial, lines):
        return
    plan, store = plan_from(request)
    states = trial_states(plan, store)
    chosen = matching(trial, plan, f"{request.command('status')} --all") if trial else _bad(states)
    if not chosen:
        say("No trial has failed and none runs. To see another one, name it:")
        say(f"    {request.command('logs')} {next(iter(plan.trials))}")
        say(f"To list them: {request.command('status')} --all")
        return
    jobs = [job for job in plan.jobs if chosen.intersection(job.trial_ids)]
    last = lines or (LAST_LINES if len(jobs) > 1 else None)
    for number, job in enumerate(jobs):
        say("" if number == 0 else "\n", end="")
        say(job.title)
        ids = [one for one in job.trial_ids if one in chosen]
        for one in ids:
            state, reason = states[one]
            say(f"  {one}  {plan.trials[one].title}: {state}{', ' if reason else ''}{reason}")
        _print_log(store, job.key, last, f"{request.command('logs')} {ids[0]}")


def matching(words: str, plan: "Plan", list_command: str) -> set[str]:
    """Ids of the trials with this id, or whose id begins so, or whose title has these words.

    Raises InputError if there is none.
    """
    if words in plan.trials:
        return {words}
    found = {one for one in plan.trials if one.startswith(words)}
    if not found:
        parts = words.lower().split()
        titles = {one: trial.title.lower() for one, trial in plan.trials.items()}
        found = {one for one, title in titles.items() if all(part in title for part in parts)}
    if not found:
        raise InputError(
            f"{plan.experiment.name}: no trial has {words!r} in its id or title. "
            f"`{list_command}` lists them."
        )
    return found


def _bad(states: States) -> set[str]:
    """The trials that failed or diverged; if there are none, those that run."""
    failed = {one for one, (state, _) in states.items() if state in ("failed", "diverged")}
    return failed or {one for one, (state, _) in states.items() if state == "running"}


def _show_of_store(trial_id: str, store_address: str, lines: int | None) -> None:
    """Print the log of a trial's job, or of all trials that failed, without an experiment file."""
    from fssplat.common.plain_names import is_plain_path

    store = existing_store(store_address, "logs")
    if trial_id and (not is_plain_path(trial_id) or trial_id not in store.files.folders()):
        raise InputError(
            f"store {store.shown_address}: no trial has the id {trial_id!r}. For an experiment "
            "file: `fssplat logs X.yaml`."
        )
    ids = [trial_id] if trial_id else [one for one in store.files.folders() if TRIAL.fullmatch(one)]
    states = store.states(ids)
    chosen = [one for one in ids if trial_id or states[one].state in ("failed", "diverged")]
    if not chosen:
        say(f"No trial has failed in {store.shown_address}.")
    for one in chosen:
        status, result = states[one], store.results([one]).get(one)
        key = status.job or (str(result.about.get("job", "")) if result else "")
        say(f"{one}: {status.state}{', ' if status.reason else ''}{status.reason}")
        last = lines or (LAST_LINES if len(chosen) > 1 else None)
        command = command_line(["fssplat", "logs", one, "--store", store_address or DEFAULT_STORE])
        _print_log(store, key if is_plain_path(key) else "", last, hidden(command))


def _print_log(store: "Store", key: str, last: int | None, command: str) -> None:
    """Print the log of a job, or only its last lines and the command that shows all."""
    from fssplat.results.job_folder import LOG_FILE

    found = None
    for name in (LOG_FILE, "error.txt") if key else ():  # older versions kept only the traceback
        found = found or store.files.read(f"jobs/{key}/{name}")
    print_log(found, last, command)
