"""Uploads of files to MLflow's artefact store, which may fail while the tracking server works."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fssplat.common.errors import described
from fssplat.common.passwords import hidden
from fssplat.common.printing import counted
from fssplat.tracking.server.connection import Connection

GIVE_UP = 2  # failures in a row after which this process tries no further upload
FILES_TAG = "fssplat.files"  # of a run whose files did not arrive: the reason


@dataclass
class Artefacts:
    """Which files did not arrive, and why. An upload that fails raises no error."""

    connection: Connection
    lacking: set[str] = field(default_factory=set)  # what lacks its files: trials, "the launch"
    error: str = ""  # the last one
    _failed_in_a_row: int = 0

    def upload(self, owner: str, send: Callable[[], object]) -> bool:
        """Call `send`, which uploads the files of `owner`. Returns whether they arrived.

        One failure may be due to a file, more in a row are due to the artefact store: then nothing
        is tried, because each attempt can take minutes.
        """
        if self._failed_in_a_row < GIVE_UP:
            try:
                send()
            except Exception as error:
                self.error = hidden(described(error))[:200]
                self._failed_in_a_row += 1
            else:
                self._failed_in_a_row = 0
                self.lacking.discard(owner)
                return True
        self.lacking.add(owner)
        return False

    def problem(self, command: str) -> str:
        """A line about the files that did not arrive, and what to do; empty if all did.

        `command` delivers them later.
        """
        if not self.lacking:
            return ""
        count = counted(len(self.lacking), "run")
        return (
            f"MLflow has the numbers but lacks the files of {count}: they cannot be written to "
            f"{self._address()} ({self.error}). Make that address writable from "
            "here, with its client and credentials, or start the server with --serve-artifacts; "
            f"then {command} delivers the files."
        )

    def _address(self) -> str:
        try:
            found = self.connection.client.get_experiment(self.connection.experiment_id)
            return hidden(str(found.artifact_location))
        except Exception:
            return "its artefact store"
