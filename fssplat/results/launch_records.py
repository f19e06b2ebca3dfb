"""Reads which launches a store has seen, which of them run, and how many trials each has ended.

What cannot be read is left out: a store may be damaged, or written by another version.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fssplat.common.plain_names import is_plain_path
from fssplat.common.printing import command_line
from fssplat.results.store import Store

CUT = "cut short"  # marked as running by a launch that no longer runs


@dataclass(frozen=True)
class LaunchRecord:
    """One launch, as its files in the store describe it."""

    id: str
    experiment: str = ""  # its name; empty if it is not recorded
    command: str = ""  # the command line that launches it again
    folder: str = ""  # in which it was typed; empty if that is not recorded
    tracking: str = ""  # the setting `tracking` of the experiment
    running: bool = False
    host: str = ""
    process: int = 0

    @property
    def started(self) -> str:
        """Date and time in the id, e.g. 2026-01-31 12:00; empty if the id has another form."""
        try:
            moment = time.strptime(self.id[:15], "%Y%m%d-%H%M%S")
        except ValueError:
            return ""
        return time.strftime("%Y-%m-%d %H:%M", moment)


@dataclass
class ExperimentRecord:
    """An experiment of a store: its launches, oldest first, and its trials by state."""

    name: str
    launches: list[LaunchRecord] = field(default_factory=list)
    trials: Counter[str] = field(default_factory=Counter)  # by state; trials that never ran: absent


def launches(store: Store) -> list[LaunchRecord]:
    """Every launch of the store, oldest first."""
    ids = [one for one in store.files.folders("launches") if is_plain_path(one)]
    names = ("experiment.json", "command.json", "claim")
    files = store.files.read_many([f"launches/{one}/{name}" for one in ids for name in names])
    running = set(store.running_launches())

    def content(launch: str, name: str) -> dict[str, Any]:
        return _mapping(files.get(f"launches/{launch}/{name}"))

    found = []
    for launch in ids:
        experiment, claim = content(launch, "experiment.json"), content(launch, "claim")
        command = content(launch, "command.json")
        record = LaunchRecord(
            id=launch,
            experiment=_text(experiment, "name"),
            command=_text(command, "command"),
            folder=_text(command, "folder"),
            tracking=_text(experiment, "tracking"),
            running=launch in running,
            host=_text(claim, "host"),
            process=pid if isinstance(pid := claim.get("pid"), int) else 0,
        )
        found.append(record)
    return found


def experiments(store: Store) -> list[ExperimentRecord]:
    """The experiments whose launches the store has seen, the latest last.

    A trial counts for the experiment whose launch ran it last. Trials of unknown launches count
    under the name "".
    """
    known = launches(store)
    by_name: dict[str, ExperimentRecord] = {}
    for launch in known:
        record = by_name.pop(launch.experiment, ExperimentRecord(launch.experiment))
        record.launches.append(launch)
        by_name[launch.experiment] = record  # the latest launch puts it last
    by_id = {launch.id: launch for launch in known}
    for launch_id, state in _trials(store):
        launch = by_id.get(launch_id, LaunchRecord(launch_id))
        cut = state == "running" and not launch.running
        record = by_name.setdefault(launch.experiment, ExperimentRecord(launch.experiment))
        record.trials[CUT if cut else state] += 1
    return list(by_name.values())


def stop_command(launch: str, address: str) -> str:
    """The command that stops one launch; `address` is its store, if that is not ./results."""
    return command_line(["fssplat", "stop", launch, *(["--store", address] if address else [])])


def _trials(store: Store) -> list[tuple[str, str]]:
    """The launch and the state of each trial that has run."""
    folders = [one for one in store.files.folders() if len(one) == 16 and one.isalnum()]
    found: list[tuple[str, str]] = []
    states, results = store.states(folders), store.results(folders)
    for trial_id, status in states.items():
        launch = status.launch
        if trial_id in results:
            launch = _text(results[trial_id].about, "launch")
        found.append((launch, status.state))
    return found


def _mapping(data: bytes | OSError | None) -> dict[str, Any]:
    try:
        value = json.loads(data) if isinstance(data, bytes) else None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""
