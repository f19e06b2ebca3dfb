"""Passes a study on to MLflow, beside the search: points as they end, artefacts at its end.

A server that is away costs a line on the screen; the next driver delivers what it missed.
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
from fssplat.search.output import Ended
from fssplat.search.space import Search
from fssplat.tracking.paused_calls import PausedCalls

REST_S = 60.0  # a server that did not answer is left alone for so long


class Mirror:
    """The MLflow side of one driver; without tracking it does nothing."""

    def __init__(
        self,
        search: Search,
        jobs: tuple[Job, ...],
        address: str,
        study: Study,
        say: Callable[..., Any],
    ) -> None:
        """`jobs` are the default point's, `address` MLflow's; empty: no tracking."""
        self._search, self._jobs, self._study = search, jobs, study
        self._address = address
        self._run: Any = None
        self._waiting: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self._server = PausedCalls(REST_S, "the search goes on, its next driver delivers.", say)

    @contextmanager
    def following(self, listeners: list[Callable[[Ended], None]]) -> Iterator[None]:
        """A thread that tells MLflow of every point that ends; an error fails the study's run."""
        if not self._address:
            yield
            return
        listeners.append(self._waiting.put)
        thread = threading.Thread(target=self._follow, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._end(thread)
            if self._run is not None:
                self._server.succeeds(self._run.fail)
            raise
        self._end(thread)

    def _end(self, thread: threading.Thread) -> None:
        self._waiting.put(None)
        thread.join()

    def close(self, points: list[Ended], files: Path, stop: StopRequest) -> None:
        """Whatever MLflow lacks of the study, its best values, and its files."""
        if not self._address:
            return
        self._server.end_pause()
        if self._run is None and not self._server.succeeds(self._open):
            return
        self._server.succeeds(self._deliver, points, files, stop)

    def _follow(self) -> None:
        self._server.succeeds(self._open)
        while (one := self._waiting.get()) is not None:
            if self._run is not None:
                self._server.succeeds(self._run.log_point, as_run(one))

    def _deliver(self, points: list[Ended], files: Path, stop: StopRequest) -> None:
        self._run.find_points()
        for one in points:
            self._run.log_point(as_run(one))
        top = output.best(points)
        metrics = {"points": float(len(points)), "steps": float(sum(one.steps for one in points))}
        params: dict[str, str] = {}
        if top is not None:
            metrics |= {f"best/{name}": value for name, value in top.values.items()}
            params = {name: written(value) for name, value in top.point.items()}
            params["point"] = str(top.number)
        self._run.close("KILLED" if stop.signal else "FINISHED", metrics, params, files)

    def _open(self) -> None:
        from fssplat.tracking.runs import open_tracking
        from fssplat.tracking.studies import StudyRun

        tracking = open_tracking(self._address, self._search.experiment.name)
        run = StudyRun(tracking, self._study.study_name, tags_of(self._search, self._jobs))
        run.open(parameters_of(self._search))
        tracking.add_search_view(self._search.space)
        self._run = run


def address_of(search: Search, store: Any) -> str:
    """Where MLflow is to be told; empty where it is switched off. Raises InputError."""
    if search.experiment.tracking == NO_TRACKING:
        return ""
    from fssplat.tracking.connection import tracking_uri

    return tracking_uri(search.experiment.tracking, store)


def tags_of(search: Search, jobs: tuple[Job, ...]) -> dict[str, str]:
    """What the study's runs are found by; `selection` says which classes the numbers are of."""
    one = jobs[0].first
    return {
        "dataset": one.train_on.name,
        "fold": ",".join(sorted({str(job.first.fold) for job in jobs})),
        "shot": str(one.shot),
        "method": one.method.label,
        "backbone": one.backbone.name,
        "selection": search.spec.selection,
        "fssplat.scored_on": output.WHAT[search.spec.selection],
        "fssplat.git_commit": environment.commit(),
    }


def parameters_of(search: Search) -> dict[str, str]:
    """How it is searched, as the parent run's parameters."""
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
    return {**{f"search.{name}": written(value) for name, value in plan.items()}, **space}


def as_run(one: Ended) -> Any:
    """A point's end as its MLflow run."""
    from fssplat.tracking.studies import PointRun

    curve = {
        round(100 * share): {_metric(name): value for name, value in parts.items()}
        for share, parts in one.rungs.items()
    }
    final = {name: value for name, value in one.values.items() if name != "miou" or not curve}
    return PointRun(
        number=one.number,
        state=one.state,
        params={name: written(value) for name, value in one.point.items()},
        metrics={**final, "steps": float(one.steps)},
        curve=curve,
        tags={"fssplat.origin": one.origin, "fssplat.reason": one.reason},
        started=one.started,
        ended=one.ended,
    )


def _metric(part: str) -> str:
    return part if part == "miou" else f"miou/{part}"


def written(value: Any) -> str:
    """A value as MLflow keeps it, the same way every time."""
    return value if isinstance(value, str) else json.dumps(value)
