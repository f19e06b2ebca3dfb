"""`fssplat ui`: show the results of an experiment in MLflow."""

from pathlib import Path

import typer

from fssplat.cli.options import ANY_EXPERIMENT, SET, STORE, require_experiment, require_no_store
from fssplat.cli.store_status import existing_store
from fssplat.common.printing import one_line, say

MOST_EXPERIMENTS = 10  # whose pages are printed


def ui(
    experiment: Path | None = ANY_EXPERIMENT,
    changes: list[str] = SET,
    store_address: str = STORE,
    port: int = typer.Option(5000, min=1, max=65535, help="Port on 127.0.0.1."),
) -> None:
    """Serve MLflow for an experiment, on this machine only: fssplat ui X.yaml

    Without a file: for the experiments of the store: fssplat ui
    """
    from fssplat.common.passwords import hidden
    from fssplat.tracking.runs import open_tracking
    from fssplat.tracking.server.connection import serve
    from fssplat.tracking.views import address

    require_no_store(store_address if experiment else "")
    require_experiment("ui", {} if experiment else {"--set KEY=VALUE": changes})
    uri, names = _of_file(experiment, changes) if experiment else _of_store(store_address)
    if uri.startswith("http"):
        whose = "this experiment" if experiment else "this store"
        say(f"The MLflow server of {whose} is {hidden(uri)}")
        return
    require_free(port)
    here = f"http://127.0.0.1:{port}"
    say(f"MLflow on {here} (Ctrl-C stops it)")
    for name in names:
        tracking = open_tracking(uri, name)
        whose = "This experiment's" if experiment else f"{one_line(name)}'s"
        for view in tracking.shared_views():
            page = address(tracking.experiment_id, view)
            say(f"{whose} {view}: {here}{page}")
    code = serve(uri, port)
    if code:
        raise typer.Exit(code)


def _of_file(path: Path, changes: list[str]) -> tuple[str, list[str]]:
    """MLflow's address for an experiment file, and the experiment's name."""
    from fssplat.launching.launch import Request
    from fssplat.results.store import Store
    from fssplat.tracking.server.connection import tracking_uri

    spec = Request(path, tuple(changes)).load()
    return tracking_uri(spec.tracking, Store(spec.store)), [spec.name]


def _of_store(store_address: str) -> tuple[str, list[str]]:
    """MLflow's address of the latest launch in a store, and the experiments that use it.

    Raises InputError if the store has no launch with MLflow, or a password is not recorded.
    """
    from fssplat.common.errors import InputError
    from fssplat.experiment.schema import NO_TRACKING
    from fssplat.results.launch_records import launches
    from fssplat.tracking.server.connection import tracking_uri

    store = existing_store(store_address, "ui")
    known = [one for one in launches(store) if one.experiment and one.tracking != NO_TRACKING]
    if not known or "***" in known[-1].tracking:
        why = "the password of its MLflow is not recorded" if known else "no launch used MLflow"
        raise InputError(
            f"store {store.shown_address}: {why}. Name an experiment: `fssplat ui X.yaml`."
        )
    setting = known[-1].tracking
    names = [one.experiment for one in known if one.tracking == setting]
    return tracking_uri(setting, store), list(dict.fromkeys(reversed(names)))[:MOST_EXPERIMENTS]


def require_free(port: int, host: str = "127.0.0.1") -> None:
    """Raises InputError if the port is not free: MLflow's server would end without a message."""
    import socket

    from fssplat.common.errors import InputError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # like servers do
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"--port {port}: cannot be used ({error.strerror}). Choose another port."
            ) from error
