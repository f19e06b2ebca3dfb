"""`fssplat ui`: MLflow's pages over an experiment's results."""

from pathlib import Path

import typer

from fssplat.cli.options import EXPERIMENT, SET


def ui(
    experiment: Path = EXPERIMENT,
    changes: list[str] = SET,
    port: int = typer.Option(5000, help="Port on 127.0.0.1."),
) -> None:
    """Open MLflow over a launch's store, on this machine only: fssplat ui X.yaml"""
    from fssplat.orchestration.launch import Request
    from fssplat.orchestration.store import Store
    from fssplat.passwords import hidden
    from fssplat.tracking.mlflow import open_tracking, serve, tracking_uri
    from fssplat.tracking.views import address

    spec = Request(experiment, tuple(changes)).load()
    uri = tracking_uri(spec.tracking, Store(spec.store))
    if uri.startswith("http"):
        print(f"This experiment's MLflow runs at {hidden(uri)}")
        return
    tracking = open_tracking(uri, spec.name)
    here = f"http://127.0.0.1:{port}"
    print(f"MLflow on {here} (Ctrl-C ends it)", flush=True)
    for view in tracking.shared_views():
        page = address(tracking.experiment_id, view)
        print(f"This experiment's {view}: {here}{page}", flush=True)
    code = serve(uri, port)
    if code:
        raise typer.Exit(code)
