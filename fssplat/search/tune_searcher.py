"""The hooks that Ray Tune calls in the driver of a search. Imports Ray, so it is imported late."""

import contextlib
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from fssplat.launching.stop_request import StopRequest
from fssplat.launching.tune_hooks import NotRestored
from fssplat.search.asha import passes_milestone, scores_by_milestone
from fssplat.search.sampler import SamplerPerTrial, draw_point
from fssplat.search.space import Point, Search
from fssplat.search.storage import (
    StudyDatabase,
    first_number,
    rdb_storage,
    requeue_dead_trials,
    requeue_point,
)
from fssplat.search.study import ENDED, objectives, study_progress

WAIT_S = 0.2  # between two looks while other drivers run the last points
HOPELESS = 3  # points that fail one after the other end a search

Pack = Callable[[int, Point], dict[str, Any]]  # a trial's number and point -> Tune's config


class SafeOptuna(NotRestored, OptunaSearch):
    """Optuna's points for Tune, with an end for each: complete, pruned, or failed with a reason.

    Tune's own searcher leaves a trial RUNNING for ever where its value is NaN or its worker dies,
    and tells a pruned one as complete. This one also counts the points of all drivers.
    """

    def __init__(
        self,
        search: Search,
        study: optuna.Study,
        database: StudyDatabase,
        slots: int,
        stop: StopRequest,
        pack: Pack,
        news: "queue.SimpleQueue[Any]",
    ) -> None:
        """`slots` points run at once; every ended trial is put into `news`."""
        names = list(objectives(search.spec))
        single = len(names) == 1
        super().__init__(
            space=lambda trial: None,
            metric=names[0] if single else names,
            mode="max" if single else ["max"] * len(names),
            study_name=study.study_name,
            storage=rdb_storage(study),
            sampler=SamplerPerTrial(search.spec),
        )
        opened: Any = self._ot_study  # the same study, through Tune's searcher
        self._study: optuna.Study = opened
        self._search, self._database = search, database
        self._slots, self._stop, self._pack, self._news = slots, stop, pack, news
        self._tended = time.monotonic()
        self._works = bool(self._ended())  # some point did, so the search makes sense
        self._failed_in_a_row = 0
        self.live: dict[str, optuna.Trial] = {}  # Tune's id -> our running trials
        self._heights: dict[int, dict[int, float]] = {}  # rung -> mIoU by point, of all drivers
        self._fell: set[str] = set()  # Tune's ids of trials that were not good enough at a rung

    # -------------------------------------------------------------- a new point

    def suggest(self, trial_id: str) -> Any:
        """The next point, None where it is not yet clear whether there is one, or FINISHED."""
        if self._stop.requested.is_set():
            return Searcher.FINISHED
        if len(self.live) >= self._slots:
            return None
        with self._database.lock(self._study.study_name):
            self._tend()
            now = study_progress(self._study)
            self._heights = scores_by_milestone(now.trials)
            if now.spent >= self._search.spec.trials:
                return Searcher.FINISHED
            if now.spent + now.running < self._search.spec.trials:
                return self._ask(trial_id)
        if not self.live:
            time.sleep(WAIT_S)
        return None

    def _ask(self, trial_id: str) -> dict[str, Any] | None:
        trial = self._study.ask()
        point = draw_point(self._search, trial)
        twin = self._twin(trial)
        if twin is not None:
            self._copy(trial, twin)
            return None
        self.live[trial_id] = trial
        try:
            return self._pack(trial.number, point)
        except Exception as error:  # a combination of values that the method does not take
            self._fail(trial_id, str(error), counts=not self._works)
            return None

    def _twin(self, trial: optuna.Trial) -> FrozenTrial | None:
        """An ended trial with the very same point; training it again would give the same value."""
        return next((t for t in self._ended() if t.params == trial.params), None)

    def _ended(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=ENDED)

    def _copy(self, trial: optuna.Trial, twin: FrozenTrial) -> None:
        for name, value in twin.user_attrs.items():
            trial.set_user_attr(name, value)
        trial.set_user_attr("same_as", first_number(twin))
        for rung, value in twin.intermediate_values.items():
            trial.report(value, rung)
        complete = twin.state is TrialState.COMPLETE
        self._tell(trial, twin.state, twin.values if complete else None)

    # -------------------------------------------------------------- a running point

    def keeps(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Write a rung down; whether its point goes on.

        A rung is judged once. A point that was cut, or lost its worker, tells its rungs again, by
        now beside others that an uncut search had not seen there.
        """
        rung, value, trial = result.get("rung"), result.get("miou"), self.live.get(trial_id)
        if rung is None or trial is None:
            return True
        if value is None or not math.isfinite(value):
            return False
        spec = self._search.spec
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            facts = {name: result[name] for name in ("share", "steps")}
            trial.set_user_attr(f"rung{rung}", {**facts, "parts": json.loads(result["parts"])})
            if len(self._study.directions) == 1:
                trial.report(value, rung)
        if not spec.prunes or rung >= len(spec.scored_shares):
            return True
        there = self._heights.setdefault(rung, {})
        point = first_number(trial)
        if point in there:
            return trial_id not in self._fell
        others = list(there.values())
        there[point] = value
        if not passes_milestone(value, others, spec.reduction):
            self._fell.add(trial_id)
        return trial_id not in self._fell

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: `keeps` has heard of it, also where it ends the trial."""

    # -------------------------------------------------------------- an ended point

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Give the Optuna trial its end."""
        if trial_id not in self.live:
            return
        last = result or {}
        state, reason = last.get("state", ""), last.get("reason", "")
        fell = trial_id in self._fell  # which a stop a moment later does not undo
        if error and not self._stop.requested.is_set():
            self._lose(trial_id)
        elif state == "full":
            self.put_back(trial_id)
            self._stop.request(reason=f"{reason}. Make room; the point goes on then.")
        elif state == "finished":
            self._finish(trial_id, [last.get(name) for name in objectives(self._search.spec)])
        elif state == "failed":
            self._fail(trial_id, reason)
        elif state == "diverged":
            self._diverge(trial_id, reason)
        elif not fell and (state == "interrupted" or error or self._stop.requested.is_set()):
            self.put_back(trial_id)
        elif not math.isfinite(last.get("miou", math.nan)):
            self._fail(trial_id, "its mIoU is no number")
        else:
            self._end(trial_id, TrialState.PRUNED)

    def _finish(self, trial_id: str, values: list[Any]) -> None:
        if all(isinstance(value, float) and math.isfinite(value) for value in values):
            self._end(trial_id, TrialState.COMPLETE, values)
        else:
            self._fail(trial_id, f"no number for {', '.join(objectives(self._search.spec))}")

    def _diverge(self, trial_id: str, reason: str) -> None:
        """As bad as it gets, which the sampler is to learn; a failed trial teaches it nothing."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self.live[trial_id].set_user_attr("diverged", reason)
        single = len(self._study.directions) == 1
        self._end(trial_id, TrialState.PRUNED if single else TrialState.FAIL)

    def _lose(self, trial_id: str) -> None:
        """Give a point whose workers died a second turn: the machine's fault may pass."""
        reason, trial = "its worker failed too often", self.live[trial_id]
        if "lost" in trial.user_attrs:
            self._fail(trial_id, reason)
            return
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr("lost", True)
        self.put_back(trial_id)
        self._count(reason)

    def _fail(self, trial_id: str, reason: str, counts: bool = True) -> None:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self.live[trial_id].set_user_attr("failed", reason)
        self._end(trial_id, TrialState.FAIL)
        if counts:
            self._count(reason)

    def _count(self, reason: str) -> None:
        """Give up after some failures in a row: the next point would meet what they met."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= HOPELESS:
            self._stop.request(reason=f"{HOPELESS} points in a row failed. The last: {reason}")

    def put_back(self, trial_id: str) -> None:
        """End a trial that was cut, and queue its point for the next driver."""
        trial = self.live[trial_id]
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        self._end(trial_id, TrialState.FAIL)
        requeue_point(self._study, frozen)

    def _end(self, trial_id: str, state: TrialState, values: Sequence[float] | None = None) -> None:
        trial = self.live.pop(trial_id)
        if state is not TrialState.FAIL:
            self._works, self._failed_in_a_row = True, 0
        self._tell(trial, state, values)

    def _tell(self, trial: optuna.Trial, state: TrialState, values: Sequence[float] | None) -> None:
        """Another driver may have taken this one for dead meanwhile; then its word stands."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._news.put(self._study.tell(trial, values, state, skip_if_finished=True))

    # -------------------------------------------------------------- beside the points

    def _tend(self) -> None:
        if time.monotonic() - self._tended >= self._database.heartbeat_s:
            self._tended = time.monotonic()
            requeue_dead_trials(self._study, self._database)

    def beat(self, over: threading.Event) -> None:
        """Keep saying that every running trial of this driver is alive, until it is over."""
        storage = rdb_storage(self._study)
        while storage is not None and not over.wait(self._database.heartbeat_s):
            with contextlib.suppress(Exception):  # a missed beat; two more may be missed
                for trial in list(self.live.values()):
                    storage.record_heartbeat(trial._trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state, and no Tuner is ever restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as nothing was saved."""


class Asha(NotRestored, FIFOScheduler):
    """Ends a point at a milestone where it is not among the best of all drivers' points there."""

    def __init__(self, searcher: SafeOptuna) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        keep = self._searcher.keeps(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if keep else TrialScheduler.STOP)
