"""`fssplat retry`: run failed trials again."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET
from fssplat.common.printing import say


def retry(experiment: Path = EXPERIMENT, changes: list[str] = SET) -> None:
    """Reset failed and diverged trials, then launch: fssplat retry X.yaml

    A diverged training starts from the beginning; a failed one resumes from its checkpoint.
    """
    from fssplat.launching.launch import Request, launch, reset
    from fssplat.tracking.launch_listener import MlflowListener

    request = Request(experiment, tuple(changes))
    say(reset(request))
    code = launch(request, listeners=[MlflowListener()])
    if code:
        raise typer.Exit(code)
