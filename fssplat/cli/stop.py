"""`fssplat stop`: stop launches from any machine that can reach their store."""

from pathlib import Path

from fssplat.cli.options import EXPERIMENT, SET
from fssplat.common.printing import say


def stop(experiment: Path = EXPERIMENT, changes: list[str] = SET) -> None:
    """Stop every launch on the store, like Ctrl-C would: fssplat stop X.yaml"""
    from fssplat.launching.launch import Request
    from fssplat.results.store import Store

    store = Store(Request(experiment, tuple(changes)).load().store)
    live = store.running_launches()
    for launch in live:
        store.request_stop(launch)
        say(f"{launch}: asked to stop. Running jobs write a checkpoint first.")
    if not live:
        say(f"No launch is running on {store.address}.")
