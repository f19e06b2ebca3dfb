"""`fssplat status` without an experiment file: the launches and experiments of a store."""

from pathlib import Path
from typing import TYPE_CHECKING

from fssplat.common.errors import InputError
from fssplat.common.printing import command_line, one_line, say

if TYPE_CHECKING:
    from fssplat.results.launch_records import ExperimentRecord, LaunchRecord
    from fssplat.results.store import Store

DEFAULT_STORE = "results"


def existing_store(address: str, command: str) -> "Store":
    """The store at `address`, or ./results if it is empty.

    Raises InputError if nothing is there; `command` is what to type with an experiment file.
    """
    from fssplat.results.store import Store

    store = Store(address or DEFAULT_STORE)
    if not store.files.folders():
        raise InputError(
            f"store {store.shown_address}: nothing is there. Name an experiment, as in `fssplat "
            f"{command} X.yaml`, or a store with --store, or go to the folder of the launch."
        )
    return store


def print_store(store: "Store", address: str) -> None:
    """Print the launches that run, how to stop each, and all experiments with their trials."""
    from fssplat.results.launch_records import experiments, stop_command

    found = experiments(store)
    running = [launch for record in found for launch in record.launches if launch.running]
    say(f"Store: {store.shown_address}")
    say(f"Launches that run: {len(running) or 'none'}")
    for launch in running:
        say(f"  {described(launch)}")
        say(f"    to stop it: {stop_command(launch.id, address)}")
    say(f"Experiments: {len(found) or 'none'}")
    for record in reversed(found):
        _print_experiment(record)


def _print_experiment(record: "ExperimentRecord") -> None:
    states = ", ".join(f"{count} {state}" for state, count in record.trials.most_common())
    name = one_line(record.name) or "(launches that are not recorded)"
    say(f"  {name}: {states or 'no trial has run'}")
    if not record.launches:
        return
    last = record.launches[-1]
    count = len(record.launches)
    say(f"    {count} launch{'es' * (count > 1)}, the last one {last.started or one_line(last.id)}")
    if last.command:
        say(f"    {one_line(_from_here(last))}")


def _from_here(launch: "LaunchRecord") -> str:
    """The command that launches it again, typed in the folder in which this command runs.

    Paths in the command, and in the experiment file, begin at the folder of the launch.
    """
    if not launch.folder or Path(launch.folder) == Path.cwd():
        return launch.command
    if Path(launch.folder).is_dir():
        return f"{command_line(['cd', launch.folder])} && {launch.command}"
    return f"{launch.command}  (typed in {launch.folder}, which is not here)"


def described(launch: "LaunchRecord") -> str:
    """A running launch in one line: id, experiment, start, process, machine."""
    words = [launch.experiment, launch.started and f"since {launch.started}"]
    if launch.process:
        words.append(f"process {launch.process} on {launch.host.split('-')[0]}")
    return f"{one_line(launch.id)}  {one_line(', '.join(filter(None, words)))}".rstrip()
