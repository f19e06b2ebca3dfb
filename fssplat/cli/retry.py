"""`fssplat retry`: another chance for what failed."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def retry(experiment: Path = EXPERIMENT, changes: list[str] = SET) -> None:
    """Forget failures and divergences, then launch: fssplat retry X.yaml

    A diverged training starts anew; a failed one goes on from its checkpoint.
    """
    from fssplat.launching.launch import Request, launch, plan_from
    from fssplat.results.maintenance import reset_failed

    request = Request(experiment, tuple(changes))
    plan, store = plan_from(request)
    print(f"{reset_failed(plan.jobs, plan.states, store)} trials get another chance.")
    code = launch(request)
    if code:
        raise typer.Exit(code)
