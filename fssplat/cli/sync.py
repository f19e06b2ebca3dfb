"""`fssplat sync`: deliver missing results to MLflow."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET
from fssplat.common.printing import counted, say


def sync(experiment: Path = EXPERIMENT, changes: list[str] = SET) -> None:
    """Deliver finished trials that MLflow does not have yet: fssplat sync X.yaml"""
    from fssplat.launching.launch import Request, plan_from
    from fssplat.tracking.launch_listener import deliver

    request = Request(experiment, tuple(changes))
    plan, store = plan_from(request)
    count = deliver(
        plan.experiment, store, plan.trials, plan.fingerprints, say, request.command("sync")
    )
    if count is None:
        raise typer.Exit(1)
    say(
        f"{counted(count, 'trial')} delivered."
        if count
        else "MLflow already has every finished trial."
    )
