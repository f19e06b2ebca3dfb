"""`fssplat search`: tune the settings of a method."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET
from fssplat.common.printing import say


def search(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    dry_run: bool = typer.Option(
        False, help="Check space, data, storage and machine, start no job."
    ),
) -> None:
    """Tune a method on held-out base classes: fssplat search experiments/search/mmnet.yaml

    Ctrl-C stops the search; the same command resumes it. Several searches may share one study.
    """
    from fssplat.launching.launch import Request
    from fssplat.search import driver, prepare

    request = Request(experiment, tuple(changes))
    if dry_run:
        prepared = prepare.prepare(request, make=False)
        say("Space, data, storage and machine: no problem found.")
        for line in prepared.unchecked:
            say(line)
        return
    code = driver.search(request)
    if code:
        raise typer.Exit(code)
