"""`fssplat search`: from a space in YAML to the best setting."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def search(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    dry_run: bool = typer.Option(
        False, help="Check space, data, storage and machine; start nothing."
    ),
) -> None:
    """Tune a method without looking at novel classes: fssplat search experiments/search/mmnet.yaml

    Ctrl-C stops it; the same command goes on. Several may work on one study at once.
    """
    from fssplat.launching.launch import Request
    from fssplat.search import driver, prepare

    request = Request(experiment, tuple(changes))
    if dry_run:
        prepare.prepare(request)
        typer.echo("Space, data, storage and machine are in order.")
        return
    code = driver.search(request)
    if code:
        raise typer.Exit(code)
