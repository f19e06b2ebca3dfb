"""`fssplat launch`: run an experiment and print its result table."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENTS, RERUN, SET, SHOW_CONFIG, show_config


def launch(
    experiments: list[Path] = EXPERIMENTS,
    changes: list[str] = SET,
    dry_run: bool = typer.Option(False, help="Check everything, print the plan, start no job."),
    config: bool = SHOW_CONFIG,
    rerun: list[str] = RERUN,
    share: str = typer.Option(
        "",
        metavar="I/N",
        help="This is launch I (from 0) of N that start together on one store: begin with other "
        "jobs than they do, and end when they run all that is left, e.g. --share 0/4",
        show_default=False,
    ),
) -> None:
    """Run every trial that has no result yet: fssplat launch experiments/quickstart.yaml

    Ctrl-C stops the launch after a checkpoint; the same command resumes it. Several files run one
    after the other; all are checked first.

    If several places give a setting, the last of these wins:
    recipe < file's training < overrides < method entry < profile < --set
    """
    if config:
        show_config(experiments, tuple(changes))
        return
    from fssplat.cli.launch_report import report_of_launch
    from fssplat.launching import several
    from fssplat.planning.share import Share
    from fssplat.tracking.launch_listener import MlflowListener

    part = Share.parse(share) if share else None
    requests = several.requests_for(experiments, tuple(changes), tuple(rerun))
    if dry_run:
        from fssplat.common.printing import Screen

        several.dry_run_all(requests, Screen(), lambda: [MlflowListener()])
        return
    code = several.launch_all(requests, lambda: [MlflowListener(report_of_launch)], share=part)
    if code:
        raise typer.Exit(code)
