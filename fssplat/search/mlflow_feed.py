"""Delivers a study to MLflow while it is searched: points when they end, files at the end.

If MLflow does not answer, the search prints one line and continues; the next driver delivers the
missing points.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.study import Study

from fssplat.experiment.schema import NO_TRACKING
from fssplat.experiment.trial import Job
from fssplat.launching.stop_request import StopRequest
from fssplat.results import environment
from fssplat.search import output
from fssplat.search.output import EndedPoint
from fssplat.search.prepare import Prepared
from fssplat.search.space import Search
from fssplat.tracking.server.paused_calls import PausedCalls

PAUSE_S = 60.0  # after a call that failed


class MlflowFeed:
    """MLflow's side of one driver; it does nothing if tracking is off."""

    def __init__(
        self,
        prepared: Prepared,
        address: str,
        study: Study,
        launch: str,
        warn: Callable[..., Any],
    ) -> None:
        """`address` is empty if tracking is off; `launch` is the id of this search's record."""
        self._prepared, self._search, self._study = prepared, prepared.search, study
        self._address, self._launch, self._warn = address, launch, warn
        self._run: Any = None
        self._dead: Any = None  # searches and launches that were killed
        self._waiting: queue.SimpleQueue[EndedPoint | None] = queue.SimpleQueue()
        self._server = PausedCalls(PAUSE_S, "the search continues, its next driver delivers.", warn)

    @contextmanager
    def following(self, listeners: list[Callable[[EndedPoint], None]]) -> Iterator[None]:
        """Deliver ended points, in a thread. An error in the body fails the study's run."""
        if not self._address:
            yield
            return
        listeners.append(self._waiting.put)
        thread = threading.Thread(target=self._deliver_points, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._stop(thread)
            if self._run is not None:
                self._server.succeeds(self._run.fail)
            raise
        self._stop(thread)

    def _stop(self, thread: threading.Thread) -> None:
        self._waiting.put(None)
        thread.join()

    def close(self, points: list[EndedPoint], files: Path, stop: StopRequest) -> None:
        """Deliver the points that MLflow lacks, the best values, and the files."""
        if not self._address:
            return
        self._server.end_pause()
        if self._run is None and not self._server.succeeds(self._open):
            return
        self._server.succeeds(self._deliver_all, points, files, stop)
        problem = self._run.tracking.artefacts.problem("the same command")
        if problem:
            self._warn(problem)

    def _deliver_points(self) -> None:
        self._server.succeeds(self._open)
        while (one := self._waiting.get()) is not None:
            if self._run is not None:
                self._server.succeeds(self._run.log_point, as_run(one))

    def _deliver_all(self, points: list[EndedPoint], files: Path, stop: StopRequest) -> None:
        self._run.find_points()
        for one in points:
            self._run.log_point(as_run(one))
        best = output.best_point(points)
        metrics = {"points": float(len(points)), "steps": float(sum(one.steps for one in points))}
        params: dict[str, str] = {}
        if best is not None:
            metrics |= {f"best/{name}": value for name, value in best.values.items()}
            params = {name: as_text(value) for name, value in best.point.items()}
            params["point"] = str(best.number)
        stopped = stop.requested.is_set() and not stop.reason
        self._run.close("KILLED" if stopped else "FINISHED", metrics, params, files)
        self._dead.end_runs()

    def _open(self) -> None:
        from fssplat.tracking.dead_launches import DeadLaunches
        from fssplat.tracking.runs import open_tracking
        from fssplat.tracking.studies import StudyRun

        tracking = open_tracking(self._address, self._search.experiment.name)
        self._dead = DeadLaunches(tracking, self._prepared.store)
        self._dead.end_runs()
        tags = study_tags(self._search, self._prepared.jobs(self._search.defaults))
        run = StudyRun(tracking, self._study.study_name, tags)
        run.open(study_parameters(self._search), self._launch)
        tracking.add_search_view(self._search.space)
        self._run = run


def mlflow_address(prepared: Prepared) -> str:
    """MLflow's address; empty if tracking is off. Raises InputError."""
    tracking = prepared.search.experiment.tracking
    if tracking == NO_TRACKING:
        return ""
    from fssplat.tracking.server.connection import tracking_uri

    return tracking_uri(tracking, prepared.store)


def study_tags(search: Search, jobs: tuple[Job, ...]) -> dict[str, str]:
    """The tags of the study's runs; `selection` says which classes their numbers are about."""
    one = jobs[0].first
    return {
        "dataset": one.train_on.name,
        "fold": ",".join(sorted({str(job.first.fold) for job in jobs})),
        "shot": str(one.shot),
        "method": one.method.label,
        "backbone": one.backbone.name,
        "selection": search.spec.selection,
        "fssplat.scored_on": output.SCORED_ON[search.spec.selection],
        "fssplat.git_commit": environment.commit(),
    }


def study_parameters(search: Search) -> dict[str, str]:
    """The sampler's settings and the space, as parameters of the parent run."""
    spec = search.spec
    space = {
        f"space.{name}": json.dumps(p.model_dump(mode="json", exclude_defaults=True))
        for name, p in search.space.items()
    }
    plan: Mapping[str, Any] = {
        "sampler": spec.sampler,
        "pruning": "asha" if spec.prunes else "none",
        "milestones": list(spec.scored_shares),
        "episodes": spec.episodes,
        "seed": spec.seed,
    }
    return {**{f"search.{name}": as_text(value) for name, value in plan.items()}, **space}


def as_run(point: EndedPoint) -> Any:
    """An ended point as its MLflow run."""
    from fssplat.tracking.studies import PointRun

    curve = {
        round(100 * share): {_metric(name): value for name, value in parts.items()}
        for share, parts in point.scores.items()
    }
    final = {name: value for name, value in point.values.items() if name != "miou" or not curve}
    return PointRun(
        number=point.number,
        state=point.state,
        params={name: as_text(value) for name, value in point.point.items()},
        metrics={**final, "steps": float(point.steps)},
        curve=curve,
        tags={"fssplat.origin": point.origin, "fssplat.reason": point.reason},
        started=point.started,
        ended=point.ended,
    )


def _metric(part: str) -> str:
    return part if part == "miou" else f"miou/{part}"


def as_text(value: Any) -> str:
    """A value as MLflow stores it; equal values give equal texts."""
    return value if isinstance(value, str) else json.dumps(value)
