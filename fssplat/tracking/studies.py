"""What MLflow hears of a search: one parent run per study, one nested run per point.

The study is the truth and MLflow mirrors it. A point's run is written at once, when the point has
its end; one that was cut in between is told again in full, and what is missing is added at the end.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fssplat.tracking.mlflow import PARAM_LENGTH, Tracking, away

KIND_STUDY, KIND_POINT = "study", "point"


@dataclass(frozen=True)
class PointRun:
    """A point as its run shows it."""

    number: int
    state: str  # complete, pruned, diverged, failed
    params: Mapping[str, str]
    metrics: Mapping[str, float]  # final values
    curve: Mapping[int, Mapping[str, float]]  # percent of the training -> metrics there
    tags: Mapping[str, str] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None


class StudyRun:
    """The parent run of a study, found again by every driver."""

    def __init__(self, tracking: Tracking, study: str, tags: Mapping[str, str]) -> None:
        self.tracking, self.study, self.tags = tracking, study, dict(tags)
        self.run_id = ""
        self.told: set[int] = set()  # numbers of points that have their run
        self.cut: dict[int, str] = {}  # number -> a run that was made and not told to its end

    def open(self, params: Mapping[str, str]) -> None:
        """The study's run, running, and which points it has. Raises Away."""
        with away():
            self.run_id = self._first() or self._created(params)
            self.tracking.client.update_run(self.run_id, status="RUNNING")
            self.learn()

    def _created(self, params: Mapping[str, str]) -> str:
        """A new run; the first one where two drivers made theirs at the same moment."""
        run = self.tracking.client.create_run(
            self.tracking.experiment_id,
            run_name=self.study,
            tags={**self.tags, "fssplat.kind": KIND_STUDY, "fssplat.study": self.study},
        )
        mine, first = run.info.run_id, self._first()
        if mine == first:
            self._log(mine, params, [])
        else:
            self.tracking.client.delete_run(mine)
        return first

    def _first(self) -> str:
        """The study's run, the oldest of several; empty where there is none."""
        found = self._search(KIND_STUDY)
        oldest = min(found, key=lambda run: (run.info.start_time, run.info.run_id), default=None)
        return oldest.info.run_id if oldest else ""

    def learn(self) -> None:
        """Which points have a run already, whole or not. Raises Away."""
        with away():
            for run in self._search(KIND_POINT):
                number = int(run.data.tags.get("fssplat.point", -1))
                if run.info.status in ("FINISHED", "FAILED"):
                    self.told.add(number)
                else:
                    self.cut[number] = run.info.run_id

    def tell(self, point: PointRun) -> None:
        """A point's run, whole. Raises Away."""
        if point.number in self.told:
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
        with away():
            if point.number not in self.cut:
                run = client.create_run(
                    self.tracking.experiment_id,
                    start_time=_milliseconds(point.started),
                    run_name=f"point {point.number}",
                    tags={name: value for name, value in tags.items() if value},
                )
                self.cut[point.number] = run.info.run_id
            run_id = self.cut[point.number]
            self._log(run_id, point.params, metrics)
            status = "FINISHED" if point.state in ("complete", "pruned") else "FAILED"
            client.set_terminated(run_id, status, at)
        del self.cut[point.number]
        self.told.add(point.number)

    def close(
        self, status: str, metrics: Mapping[str, float], params: Mapping[str, str], files: Path
    ) -> None:
        """The study's totals and artefacts; `params` as tags, since a later best replaces them.

        Raises Away.
        """
        from mlflow.entities import Metric, RunTag

        client, at = self.tracking.client, _milliseconds(None)
        with away():
            rows = [Metric(name, _finite(value), at, 0) for name, value in metrics.items()]
            tags = [RunTag(f"best.{name}", value) for name, value in params.items()]
            client.log_batch(self.run_id, metrics=rows, tags=tags)
            for path in sorted(files.iterdir()) if files.is_dir() else ():
                if path.is_file():
                    client.log_artifact(self.run_id, str(path))
                elif path.name == "plots":
                    client.log_artifacts(self.run_id, str(path), path.name)
            client.set_terminated(self.run_id, status)

    def fail(self) -> None:
        """The run of a search that broke off: its next driver has it running again. Raises Away."""
        with away():
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
