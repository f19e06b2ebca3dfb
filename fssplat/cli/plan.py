"""`fssplat plan`: what a launch would run, and what it would cost."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def plan(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    gpus: int = typer.Option(
        None, min=0, help="Plan for this many GPUs.  [default: this machine's]", show_default=False
    ),
    gantt: Path = typer.Option(None, help="Draw the time line to this PNG.", show_default=False),
    as_json: bool = typer.Option(False, "--json", help="Print the same as JSON, every job listed."),
) -> None:
    """Show jobs, order, hours and makespan: fssplat plan experiments/full_grid.yaml --gpus 8"""
    import json

    from rich.console import Console

    from fssplat.common.errors import InputError
    from fssplat.launching.launch import Request, plan_from
    from fssplat.planning import plan as planning

    if gantt is not None and gantt.suffix.lower() != ".png":
        raise InputError(f"--gantt {gantt}: the time line is a PNG. Name it {gantt.stem}.png.")
    machine = planning.this_machine() if gpus is None else planning.machine_with(gpus)
    planned, _ = plan_from(Request(experiment, tuple(changes)), machine)
    if as_json:
        print(json.dumps(planning.as_json(planned), indent=1))
    else:
        Console().print(planning.table(planned))
    if gantt is not None:
        try:
            planning.draw_gantt(planned, gantt)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"--gantt {gantt}: cannot be written ({reason}). Give another file."
            ) from error
