"""`fssplat stop`: stop launches and searches from any machine that can reach their store."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fssplat.cli.options import SET, STORE, require_experiment, require_no_store
from fssplat.cli.store_status import described, existing_store
from fssplat.common.errors import InputError
from fssplat.common.printing import say

if TYPE_CHECKING:
    from fssplat.results.launch_records import LaunchRecord
    from fssplat.results.store import Store


def stop(
    target: str = typer.Argument(
        "",
        help="An experiment file, or the id of a launch or search.  [default: the only one]",
        show_default=False,
    ),
    changes: list[str] = SET,
    store_address: str = STORE,
    every: bool = typer.Option(False, "--all", help="Stop every launch and search on the store."),
) -> None:
    """Stop the launches and searches of an experiment, as Ctrl-C does: fssplat stop X.yaml

    Or one of them: fssplat stop 20260131-120000-ab12. `fssplat status` lists those that run.
    """  # fmt: skip
    is_file = target.endswith((".yaml", ".yml")) or Path(target).is_file() if target else False
    require_no_store(store_address if is_file else "")
    if not is_file:
        require_experiment("stop", {"--set KEY=VALUE": changes})
    if is_file:
        store, name = _of_file(Path(target), changes)
    else:
        store, name = existing_store(store_address, "stop"), ""
    running = _running(store)
    chosen = running if every else _chosen(running, "" if is_file else target, name, store_address)
    for launch in chosen:
        store.request_stop(launch.id)
        say(f"{launch.id}: asked to stop. Running jobs write a checkpoint first.")
    if not chosen:
        say(f"No launch{f' of {name}' if name else ''} is running on {store.shown_address}.")


def _of_file(path: Path, changes: list[str]) -> "tuple[Store, str]":
    """The store of an experiment file, and the experiment's name."""
    from fssplat.launching.launch import Request
    from fssplat.results.store import Store

    spec = Request(path, tuple(changes)).load()
    return Store(spec.store), spec.name


def _running(store: "Store") -> "list[LaunchRecord]":
    from fssplat.results.launch_records import launches

    return [launch for launch in launches(store) if launch.running]


def _chosen(
    running: "list[LaunchRecord]", launch_id: str, name: str, address: str
) -> "list[LaunchRecord]":
    """The launches to stop: that of the id, those of the experiment, or the only one.

    Raises InputError if the id does not run, or if several launches run and none is named.
    """
    from fssplat.results.launch_records import stop_command

    listed = "; ".join(described(one) for one in running) or "none"
    if launch_id:
        chosen = [one for one in running if one.id == launch_id]
        if not chosen:
            raise InputError(f"{launch_id}: no such launch is running. Running: {listed}.")
        return chosen
    if name:
        return [one for one in running if one.experiment in (name, "")]
    if len(running) > 1:
        command = stop_command(running[0].id, address)
        raise InputError(
            f"{len(running)} launches are running: {listed}. Name one, as in `{command}`, or stop "
            "all with --all."
        )
    return running
