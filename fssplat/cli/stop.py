"""`fssplat stop`: end a launch from anywhere that sees its store."""

from pathlib import Path

from fssplat.cli.options import EXPERIMENT, SET


def stop(experiment: Path = EXPERIMENT, changes: list[str] = SET) -> None:
    """Ask every launch on the store to stop as Ctrl-C would: fssplat stop X.yaml"""
    from fssplat.launching.launch import Request
    from fssplat.results.store import Store

    store = Store(Request(experiment, tuple(changes)).load().store)
    live = store.live_launches()
    for launch in live:
        store.ask_to_stop(launch)
        print(f"{launch}: asked to stop; running jobs write a checkpoint first.")
    if not live:
        print(f"No launch runs on {store.address}.")
