"""`fssplat ui`: show the results of an experiment in MLflow."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET
from fssplat.common.printing import say


def ui(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    port: int = typer.Option(5000, min=1, max=65535, help="Port on 127.0.0.1."),
) -> None:
    """Serve MLflow for an experiment, on this machine only: fssplat ui X.yaml"""
    from fssplat.common.passwords import hidden
    from fssplat.launching.launch import Request
    from fssplat.results.store import Store
    from fssplat.tracking.connection import serve, tracking_uri
    from fssplat.tracking.runs import open_tracking
    from fssplat.tracking.views import address

    spec = Request(experiment, tuple(changes)).load()
    uri = tracking_uri(spec.tracking, Store(spec.store))
    if uri.startswith("http"):
        say(f"The MLflow server of this experiment is {hidden(uri)}")
        return
    require_free(port)
    tracking = open_tracking(uri, spec.name)
    here = f"http://127.0.0.1:{port}"
    say(f"MLflow on {here} (Ctrl-C stops it)")
    for view in tracking.shared_views():
        page = address(tracking.experiment_id, view)
        say(f"This experiment's {view}: {here}{page}")
    code = serve(uri, port)
    if code:
        raise typer.Exit(code)


def require_free(port: int) -> None:
    """Raises InputError if the port is not free: MLflow's server would end without a message."""
    import socket

    from fssplat.common.errors import InputError

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # like servers do
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"--port {port}: cannot be used ({error.strerror}). Choose another port."
            ) from error
