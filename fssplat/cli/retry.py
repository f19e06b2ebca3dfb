"""`fssplat retry`: another chance for what failed."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def retry(experiment: Path = EXPERIMENT, changes: list[str] = SET) -> None:
    """Forget failures and divergences, then launch: fssplat retry X.yaml

    A diverged training starts anew; a failed one goes on from its checkpoint.
    """
    from fssplat.orchestration.launch import Request, launch, plan_from
    from fssplat.orchestration.upkeep import forget_failures

    request = Request(experiment, tuple(changes))
    plan, store = plan_from(request)
    print(f"{forget_failures(plan, store)} trials get another chance.")
    code = launch(request)
    if code:
        raise typer.Exit(code)
