"""A search's runs in MLflow: one parent run per study, one nested run per point.

The study is the source of truth. A point's run is written when the point ends. A run that was
interrupted while it was written is written again, and missing runs are added at the end.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fssplat.tracking.names import PARAM_LENGTH
from fssplat.tracking.runs import Tracking
from fssplat.tracking.server.connection import mlflow_errors

KIND_STUDY, KIND_POINT = "study", "point"
DRIVER = "fssplat.driver."  # before the id of a driver's record: a tag of the study's run


@dataclass(frozen=True)
class PointRun:
    """A point and all that its run shows."""

    number: int
    state: str  # complete, pruned, diverged, failed
    params: Mapping[str, str]
    metrics: Mapping[str, float]  # final values
    curve: Mapping[int, Mapping[str, float]]  # percent of the training -> metrics there
    tags: Mapping[str, str] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None


class StudyRun:
    """The parent run of a study, which all of its drivers share."""

    def __init__(self, tracking: Tracking, study: str, tags: Mapping[str, str]) -> None:
        self.tracking, self.study, self.tags = tracking, study, dict(tags)
        self.run_id = ""
        self.written: set[int] = set()  # numbers of points with a complete run
        self.unfinished: dict[int, str] = {}  # number of a point -> its incomplete run

    def open(self, params: Mapping[str, str], launch: str = "") -> None:
        """Set the study's run to RUNNING and find its points. Raises MlflowError.

        `launch` is the id of this driver's record in the store.
        """
        with mlflow_errors():
            self.run_id = self._oldest_run() or self._make_run(params)
            if launch:  # a tag for each driver, since several may set theirs at the same time
                self.tracking.client.set_tag(self.run_id, f"{DRIVER}{launch}", "1")
            self.tracking.client.update_run(self.run_id, status="RUNNING")
            self.find_points()

    def _make_run(self, params: Mapping[str, str]) -> str:
        """Make the run; if two drivers make one at the same time, the older one is kept."""
        run = self.tracking.client.create_run(
            self.tracking.experiment_id,
            run_name=self.study,
            tags={**self.tags, "fssplat.kind": KIND_STUDY, "fssplat.study": self.study},
        )
        mine, oldest = run.info.run_id, self._oldest_run()
        if mine == oldest:
            self._log(mine, params, [])
        else:
            self.tracking.client.delete_run(mine)
        return oldest

    def _oldest_run(self) -> str:
        """The id of the study's run, the oldest of several; empty if there is none."""
        found = self._search(KIND_STUDY)
        oldest = min(found, key=lambda run: (run.info.start_time, run.info.run_id), default=None)
        return oldest.info.run_id if oldest else ""

    def find_points(self) -> None:
        """Read which points have a run, complete or not. Raises MlflowError."""
        with mlflow_errors():
            for run in self._search(KIND_POINT):
                number = int(run.data.tags.get("fssplat.point", -1))
                if run.info.status in ("FINISHED", "FAILED"):
                    self.written.add(number)
                else:
                    self.unfinished[number] = run.info.run_id

    def log_point(self, point: PointRun) -> None:
        """Write the point's run, unless it is complete. Raises MlflowError."""
        if point.number in self.written:
            return
        from mlflow.entities import Metric

        client = self.tracking.client
        at = _milliseconds(point.ended)
        tags = {
            **self.tags,
            **point.tags,
            "fssplat.kind": KIND_POINT,
            "fssplat.study": self.study,
            "fssplat.point": str(point.number),
            "fssplat.state": point.state,
            "mlflow.parentRunId": self.run_id,
        }
        metrics = [
            Metric(name, _finite(value), at, percent)
            for percent, values in point.curve.items()
            for name, value in values.items()
        ]
        last = max(point.curve, default=100)
        metrics += [Metric(name, _finite(v), at, last) for name, v in point.metrics.items()]
        with mlflow_errors():
            if point.number not in self.unfinished:
                run = client.create_run(
                    self.tracking.experiment_id,
                    start_time=_milliseconds(point.started),
                    run_name=f"point {point.number}",
                    tags={name: value for name, value in tags.items() if value},
                )
                self.unfinished[point.number] = run.info.run_id
            run_id = self.unfinished[point.number]
            self._log(run_id, point.params, metrics)
            status = "FINISHED" if point.state in ("complete", "pruned") else "FAILED"
            client.set_terminated(run_id, status, at)
        del self.unfinished[point.number]
        self.written.add(point.number)

    def close(
        self, status: str, metrics: Mapping[str, float], params: Mapping[str, str], files: Path
    ) -> None:
        """Log the study's totals and files. The best point's `params` become tags: a tag can be
        replaced when a better point is found. Files that cannot be uploaded do not stop the rest.

        Raises MlflowError.
        """
        from mlflow.entities import Metric, RunTag

        client, at = self.tracking.client, _milliseconds(None)
        with mlflow_errors():
            rows = [Metric(name, _finite(value), at, 0) for name, value in metrics.items()]
            tags = [RunTag(f"best.{name}", value) for name, value in params.items()]
            client.log_batch(self.run_id, metrics=rows, tags=tags)
            self.tracking.artefacts.upload("the study", lambda: self._send(files))
            client.set_terminated(self.run_id, status)

    def _send(self, files: Path) -> None:
        for path in sorted(files.iterdir()) if files.is_dir() else ():
            if path.is_file():
                self.tracking.client.log_artifact(self.run_id, str(path))
            elif path.name == "plots":
                self.tracking.client.log_artifacts(self.run_id, str(path), path.name)

    def fail(self) -> None:
        """End the run of a search that failed; the next driver sets it to RUNNING again.

        Raises MlflowError.
        """
        with mlflow_errors():
            self.tracking.client.set_terminated(self.run_id, "FAILED")

    def _search(self, kind: str) -> list[Any]:
        found: list[Any] = []
        token: str | None = None
        while True:
            page = self.tracking.client.search_runs(
                [self.tracking.experiment_id],
                filter_string=f"tags.`fssplat.kind` = '{kind}' and "
                f"tags.`fssplat.study` = '{self.study}'",
                max_results=1000,
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found

    def _log(self, run_id: str, params: Mapping[str, str], metrics: Sequence[Any]) -> None:
        from mlflow.entities import Param

        rows = [Param(name, value[:PARAM_LENGTH]) for name, value in params.items()]
        self.tracking.client.log_batch(run_id, metrics=list(metrics), params=rows)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _milliseconds(moment: datetime | None) -> int:
    return int((moment or datetime.now()).timestamp() * 1000)
