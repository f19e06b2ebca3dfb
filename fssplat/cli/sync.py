"""`fssplat sync`: deliver to MLflow what it missed."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def sync(experiment: Path = EXPERIMENT, changes: list[str] = SET) -> None:
    """Give MLflow every finished trial it lacks: fssplat sync X.yaml"""
    from fssplat.launching.launch import Request, deliver, plan_from

    plan, store = plan_from(Request(experiment, tuple(changes)))
    count = deliver(plan.experiment, plan, store, print)
    if count is None:
        raise typer.Exit(1)
    print(f"{count} trials delivered." if count else "MLflow has every finished trial.")
