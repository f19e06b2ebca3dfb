"""Ends the runs of killed launches and searches, which MLflow would show as RUNNING for ever."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.plain_names import plain_name
from fssplat.results.claims import EXPIRY_S, held
from fssplat.results.store import Store
from fssplat.tracking.runs import Tracking
from fssplat.tracking.server.connection import mlflow_errors
from fssplat.tracking.studies import DRIVER, KIND_STUDY


def launches_of(tags: Mapping[str, str]) -> list[str]:
    """The ids of the launch, or of all drivers of the study, that has a run with these tags."""
    drivers = [tag.removeprefix(DRIVER) for tag in tags if tag.startswith(DRIVER)]
    return drivers or [tags.get("fssplat.launch", "")]


@dataclass
class DeadLaunches:
    """The launches and searches of a store that MLflow shows as RUNNING and no process runs."""

    tracking: Tracking
    store: Store
    _watched: dict[str, tuple[bytes | None, float]] = field(default_factory=dict)

    def end_runs(self) -> int:
        """Set their runs, and the RUNNING runs below them, to KILLED. Returns their number.

        The claim of another machine is dead if it has not changed since a call at least EXPIRY_S
        seconds earlier. Raises MlflowError.
        """
        ended = 0
        with mlflow_errors():
            runs = self._running("tags.`fssplat.kind` = 'launch'")
            runs += self._running(f"tags.`fssplat.kind` = '{KIND_STUDY}'")
            for run in runs:
                if run.info.run_id == self.tracking.parent:
                    continue
                dead = [self._is_dead(launch) for launch in launches_of(run.data.tags)]
                if dead and all(dead):
                    parent = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
                    for one in (*self._running(parent), run):
                        self.tracking.client.set_terminated(one.info.run_id, "KILLED")
                    ended += 1
        return ended

    def _running(self, condition: str) -> list[Any]:
        return list(
            self.tracking.client.search_runs(
                [self.tracking.experiment_id],
                filter_string=f"{condition} and attributes.status = 'RUNNING'",
                max_results=1000,
            )
        )

    def _is_dead(self, launch: str) -> bool:
        """Whether this store has the launch and no process has its claim."""
        try:
            folder = f"launches/{plain_name(launch, 'MLflow: fssplat.launch')}"
        except InputError:
            return False
        files = self.store.files
        if files.read(f"{folder}/experiment.json") is None:
            return False  # a launch of another store
        if not held(files, f"{folder}/claim"):
            return True
        beat, now = files.read(f"{folder}/claim"), time.monotonic()
        seen, since = self._watched.setdefault(launch, (beat, now))
        if beat != seen:
            self._watched[launch] = beat, now
            return False
        return now - since > EXPIRY_S
