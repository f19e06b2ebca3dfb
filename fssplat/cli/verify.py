"""`fssplat verify`: reproduce a row, a table, or all tables of a paper."""

from pathlib import Path

import typer

from fssplat.cli.options import CHANGES, RERUN, SET

BASE = Path("experiments/base.yaml")
BASE_FILE = typer.Option(
    None,
    "--base",
    help="Experiment file with data sets, weights, profiles, store.  "
    f"[default: {BASE} if it exists]",
    show_default=False,
)


def verify(
    row: str = typer.Argument(
        "",
        metavar="NAME",
        help="A paper, its table, or a row: HMFS, HMFS:2 or HMFS:2:33; see --list.",
    ),
    changes: list[str] = SET,
    dry_run: bool = typer.Option(False, help="Check everything, print the plan, start no job."),
    base: Path | None = BASE_FILE,
    rerun: list[str] = RERUN,
    since: bool = CHANGES,
    retry: bool = typer.Option(False, help="First reset trials that failed or diverged."),
    listed: bool = typer.Option(
        False, "--list", help="List the rows that can be run, of a paper, a table, or all."
    ),
    every: bool = typer.Option(
        False, "--all", help="With --list: also the rows that cannot be run, with the reason."
    ),
) -> None:
    """Run published rows again and print both results: fssplat verify HMFS:2

    The rows of a table or paper run in one launch, and are printed in the layout of the paper.
    HMFS:2:33 is one row. Protocol, schedule and backbone are those of the row. --set profile=smoke
    is a quick test run.
    """
    from fssplat.cli.status import print_changes
    from fssplat.common.errors import InputError
    from fssplat.common.printing import Screen, say

    if listed:
        list_rows(row, every)
        return
    if not row:
        raise InputError(
            "verify needs a paper, a table or a row, e.g. HMFS:2:33. `fssplat verify --list` "
            "prints them."
        )
    from fssplat.launching import launch as launching
    from fssplat.launching.verify import request_for, show
    from fssplat.launching.verify import verify as run
    from fssplat.tracking.launch_listener import MlflowListener

    if base is None and BASE.is_file():
        base = BASE
    request = request_for(row, base, tuple(changes), tuple(rerun))
    if since:
        print_changes(*launching.plan_from(request), Screen())
        return
    if dry_run:
        launching.dry_run(request, Screen(), [MlflowListener()])
        show(request, Screen())
        return
    if retry:
        say(launching.reset(request))
    code = run(request, listeners=[MlflowListener()])
    if code:
        raise typer.Exit(code)


def list_rows(prefix: str, every: bool) -> None:
    """Print the published rows of a paper or table, and how many of them can be run."""
    from fssplat.common.printing import Screen, command_line, say
    from fssplat.report import published
    from fssplat.report.terminal.comparison import published_rows_table

    found = published.matching(prefix)
    runnable = [one for one in found if not published.why_not_run(one)]
    shown = found if every else runnable
    if shown:
        Screen().print(published_rows_table(shown))
    say(f"{len(runnable)} of {len(found)} rows can be run.")
    if len(shown) < len(found):
        words = [prefix] if prefix else []
        command = command_line(["fssplat", "verify", "--list", *words, "--all"])
        say(f"The others, with the reason: {command}")
