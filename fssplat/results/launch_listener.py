"""The interface of whatever follows a launch, such as MLflow, and what a launch passes to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.results.notes import Note
from fssplat.results.store import Store


@dataclass(frozen=True)
class LaunchInfo:
    """One launch, as its listeners see it."""

    launch: str  # its id; empty if it has no job to run
    experiment: ExperimentSpec
    store: Store
    trials: Mapping[str, Trial]  # all of the experiment, by id
    fingerprints: Mapping[str, str]  # by data set
    commit: str  # of the code
    sync_command: str  # delivers results later
    ui_command: str  # serves MLflow's pages
    command: str  # launches this experiment again
    warn: Callable[[str], None]  # prints a line beside the live display


class LaunchListener(Protocol):
    """Follows one launch. Only `check` and `open` may raise, and only InputError."""

    def check(self, experiment: ExperimentSpec, store: Store, make: bool = True) -> str:
        """Check the settings before anything starts. Makes no file if `make` is False.

        Returns a line that says what could not be checked; empty if nothing.
        """
        ...

    def deliver_finished(self, info: LaunchInfo) -> None:
        """Called instead of all methods below if every trial already has its result."""
        ...

    def open(self, info: LaunchInfo) -> None:
        """Called once before the first note, from another thread while Ray starts."""
        ...

    def on_note(self, note: Note) -> None:
        """Take a note of a running job and return at once."""
        ...

    def close(self, stopped: bool) -> None:
        """Called once after the last note; `stopped` if the launch was asked to stop."""
        ...
