"""`fssplat retry`: run failed trials again."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET
from fssplat.common.printing import say


def retry(experiment: Path = EXPERIMENT, changes: list[str] = SET) -> None:
    """Reset failed and diverged trials, then launch: fssplat retry X.yaml

    A diverged training starts from the beginning; a failed one resumes from its checkpoint.
    """
    from fssplat.launching.launch import Request, launch, plan_from
    from fssplat.results.maintenance import reset_failed
    from fssplat.tracking.launch_listener import MlflowListener

    request = Request(experiment, tuple(changes))
    plan, store = plan_from(request)
    say(f"{reset_failed(plan.jobs, plan.states, store)} trials will run again.")
    code = launch(request, listeners=[MlflowListener()])
    if code:
        raise typer.Exit(code)
