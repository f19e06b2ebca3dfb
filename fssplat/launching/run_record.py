"""The record of a launch or search in its store: `status` lists it, and `stop` ends it."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from fssplat.common.passwords import hidden_in
from fssplat.experiment.schema import ExperimentSpec
from fssplat.launching.stop_request import StopRequest
from fssplat.results import environment
from fssplat.results.claims import claim
from fssplat.results.store import Store

STOP_FILE_S = 2.0  # seconds between two looks for the file that `fssplat stop` writes


def new_id() -> str:
    """The id of a launch or search: when it started, and four random letters."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:4]}"


@contextlib.contextmanager
def recorded(
    store: Store, launch: str, experiment: ExperimentSpec, command: str, typed: str
) -> Iterator[None]:
    """Write the record, and claim it for the length of the block, so that it counts as running."""
    with claim(store.files, f"launches/{launch}/claim", launch) or contextlib.nullcontext():
        write_description(store, launch, experiment, command, typed)
        yield


def write_description(
    store: Store, launch: str, experiment: ExperimentSpec, command: str, typed: str
) -> None:
    """Write the experiment, the environment, the command and the file as typed into the store."""
    files = {
        "experiment.json": hidden_in(experiment.model_dump(mode="json")),
        "environment.json": environment.capture(),
        "command.json": {"command": command, "folder": str(Path.cwd())},
    }
    for name, value in files.items():
        text = json.dumps(value, indent=1, default=str)
        store.files.write(f"launches/{launch}/{name}", text.encode())
    store.files.write(f"launches/{launch}/experiment.yaml", typed.encode())


def watch_stop_file(store: Store, launch: str, stop: StopRequest, over: threading.Event) -> None:
    """Request a stop when `fssplat stop` asks for it, until `over` is set."""
    while not over.wait(STOP_FILE_S):
        with contextlib.suppress(Exception):  # the store may be back soon
            if store.stop_requested(launch):
                stop.request()
