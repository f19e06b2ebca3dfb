"""`fssplat launch`: run an experiment and print its result table."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET, SHOW_CONFIG, show_config


def launch(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    dry_run: bool = typer.Option(False, help="Check everything, print the plan, start no job."),
    config: bool = SHOW_CONFIG,
) -> None:
    """Run every trial that has no result yet: fssplat launch experiments/quickstart.yaml

    Ctrl-C stops the launch after a checkpoint; the same command resumes it.

    Settings, the last wins: recipe of the method < file's training < overrides < method entry <
    profile < --set.
    """
    if config:
        show_config(experiment, tuple(changes))
        return
    from fssplat.launching import launch as launching
    from fssplat.launching.launch import Request
    from fssplat.tracking.launch_listener import MlflowListener

    request = Request(experiment, tuple(changes))
    if dry_run:
        from fssplat.common.printing import Screen

        launching.dry_run(request, Screen(), [MlflowListener()])
        return
    code = launching.launch(request, listeners=[MlflowListener()])
    if code:
        raise typer.Exit(code)
