"""The searcher and the scheduler that Ray Tune calls in a search's driver. Imports Ray."""

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

POLL_S = 0.2  # between two looks at the study while other drivers run the last points
MAX_FAILED_IN_A_ROW = 3  # points; then the search ends

# An Optuna trial's number and its point -> Tune's config
Pack = Callable[[int, Point], dict[str, Any]]


class StudySearcher(NotRestored, OptunaSearch):
    """Gives points of a study to Tune and ends their Optuna trials: complete, pruned, or failed.

    Tune's own searcher leaves a trial RUNNING for ever if its value is NaN or its worker dies, and
    it records a pruned trial as complete. This one also counts the points of all drivers.
    """

    def __init__(
        self,
        search: Search,
        study: optuna.Study,
        database: StudyDatabase,
        slots: int,
        stop: StopRequest,
        pack: Pack,
        ended_trials: "queue.SimpleQueue[Any]",
    ) -> None:
        """At most `slots` points run at the same time. Ended trials are put into `ended_trials`."""
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
        opened: Any = self._ot_study  # the same study, as Tune's class opened it
        self._study: optuna.Study = opened
        self._search, self._database = search, database
        self._slots, self._stop, self._pack = slots, stop, pack
        self._ended_trials = ended_trials
        self._checked_at = time.monotonic()  # when dead drivers were last looked for
        self._some_ended = bool(self._ended())  # without an error, so the search can work
        self._failed_in_a_row = 0
        self.running: dict[str, optuna.Trial] = {}  # Tune's id -> this driver's running trials
        self._scores: dict[int, dict[int, float]] = {}  # milestone -> mIoU by point, all drivers
        self._pruned: set[str] = set()  # Tune's ids of trials that did not pass a milestone

    # -------------------------------------------------------------- a new point

    def suggest(self, trial_id: str) -> Any:
        """The config of the next point, or FINISHED.

        Returns None if all slots are in use, or if other drivers run the last points: a failure
        there would leave a point for this driver.
        """
        if self._stop.requested.is_set():
            return Searcher.FINISHED
        if len(self.running) >= self._slots:
            return None
        with self._database.lock(self._study.study_name):
            self._requeue_dead_trials()
            progress = study_progress(self._study)
            self._scores = scores_by_milestone(progress.trials)
            if progress.spent >= self._search.spec.trials:
                return Searcher.FINISHED
            if progress.spent + progress.running < self._search.spec.trials:
                return self._next_config(trial_id)
        if not self.running:
            time.sleep(POLL_S)
        return None

    def _next_config(self, trial_id: str) -> dict[str, Any] | None:
        trial = self._study.ask()
        point = draw_point(self._search, trial)
        same = self._ended_trial_of(trial)
        if same is not None:
            self._copy(trial, same)
            return None
        self.running[trial_id] = trial
        try:
            return self._pack(trial.number, point)
        except Exception as error:  # the method refuses this combination of values
            self._fail(trial_id, str(error), counts=not self._some_ended)
            return None

    def _ended_trial_of(self, trial: optuna.Trial) -> FrozenTrial | None:
        """An ended trial of the same point: training it again would give the same value."""
        return next((t for t in self._ended() if t.params == trial.params), None)

    def _ended(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=ENDED)

    def _copy(self, trial: optuna.Trial, source: FrozenTrial) -> None:
        """End a trial with the result of another trial of the same point."""
        for name, value in source.user_attrs.items():
            trial.set_user_attr(name, value)
        trial.set_user_attr("same_as", first_number(source))
        for milestone, value in source.intermediate_values.items():
            trial.report(value, milestone)
        complete = source.state is TrialState.COMPLETE
        self._store_end(trial, source.state, source.values if complete else None)

    # -------------------------------------------------------------- a running point

    def keeps(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Store the score of a milestone and return whether the point continues.

        Each milestone is decided once: a restarted point reports its milestones again, and the
        first decision stays valid.
        """
        milestone, value = result.get("rung"), result.get("miou")
        trial = self.running.get(trial_id)
        if milestone is None or trial is None:
            return True
        if value is None or not math.isfinite(value):
            return False
        spec = self._search.spec
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            facts = {name: result[name] for name in ("share", "steps")}
            trial.set_user_attr(f"rung{milestone}", {**facts, "parts": json.loads(result["parts"])})
            if len(self._study.directions) == 1:
                trial.report(value, milestone)
        if not spec.prunes or milestone >= len(spec.scored_shares):
            return True
        scores = self._scores.setdefault(milestone, {})
        point = first_number(trial)
        if point in scores:
            return trial_id not in self._pruned
        others = list(scores.values())
        scores[point] = value
        if not passes_milestone(value, others, spec.reduction):
            self._pruned.add(trial_id)
        return trial_id not in self._pruned

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Does nothing: the scheduler calls `keeps`, for results that end the trial, too."""

    # -------------------------------------------------------------- an ended point

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End the Optuna trial, or queue its point again if it was interrupted."""
        if trial_id not in self.running:
            return
        last = result or {}
        state, reason = last.get("state", ""), last.get("reason", "")
        pruned = trial_id in self._pruned  # a later stop request does not change that
        if error and not self._stop.requested.is_set():
            self._requeue_lost(trial_id)
        elif state == "full":
            self.requeue(trial_id)
            self._stop.request(reason=f"{reason}. Make room; the point goes on then.")
        elif state == "finished":
            self._finish(trial_id, [last.get(name) for name in objectives(self._search.spec)])
        elif state == "failed":
            self._fail(trial_id, reason)
        elif state == "diverged":
            self._diverge(trial_id, reason)
        elif not pruned and (state == "interrupted" or error or self._stop.requested.is_set()):
            self.requeue(trial_id)
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
        """End a diverged point as PRUNED: the sampler learns from it, but not from a FAIL."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self.running[trial_id].set_user_attr("diverged", reason)
        single = len(self._study.directions) == 1
        self._end(trial_id, TrialState.PRUNED if single else TrialState.FAIL)

    def _requeue_lost(self, trial_id: str) -> None:
        """Queue a point again, once, if its workers died: the machine may be the cause."""
        reason, trial = "its worker failed too often", self.running[trial_id]
        if "lost" in trial.user_attrs:
            self._fail(trial_id, reason)
            return
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr("lost", True)
        self.requeue(trial_id)
        self._count_failure(reason)

    def _fail(self, trial_id: str, reason: str, counts: bool = True) -> None:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self.running[trial_id].set_user_attr("failed", reason)
        self._end(trial_id, TrialState.FAIL)
        if counts:
            self._count_failure(reason)

    def _count_failure(self, reason: str) -> None:
        """Stop the search after some failures in a row, since the next point would fail, too."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            self._stop.request(
                reason=f"{MAX_FAILED_IN_A_ROW} points in a row failed. The last: {reason}"
            )

    def requeue(self, trial_id: str) -> None:
        """End an interrupted trial, and queue its point for the next driver."""
        trial = self.running[trial_id]
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        self._end(trial_id, TrialState.FAIL)
        requeue_point(self._study, frozen)

    def _end(self, trial_id: str, state: TrialState, values: Sequence[float] | None = None) -> None:
        trial = self.running.pop(trial_id)
        if state is not TrialState.FAIL:
            self._some_ended, self._failed_in_a_row = True, 0
        self._store_end(trial, state, values)

    def _store_end(
        self, trial: optuna.Trial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Store the end, unless another driver has ended the trial because this one seemed dead."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._ended_trials.put(self._study.tell(trial, values, state, skip_if_finished=True))

    # -------------------------------------------------------------- beside the points

    def _requeue_dead_trials(self) -> None:
        if time.monotonic() - self._checked_at >= self._database.heartbeat_s:
            self._checked_at = time.monotonic()
            requeue_dead_trials(self._study, self._database)

    def send_heartbeats(self, over: threading.Event) -> None:
        """Record heartbeats of this driver's running trials until `over` is set."""
        storage = rdb_storage(self._study)
        while storage is not None and not over.wait(self._database.heartbeat_s):
            with contextlib.suppress(Exception):  # two more heartbeats may be missed
                for trial in list(self.running.values()):
                    storage.record_heartbeat(trial._trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the study has all the state, and fssplat never restores a Tuner."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing, since `save` saves nothing."""


class Asha(NotRestored, FIFOScheduler):
    """Ends a point at a milestone if it is not among the best of all drivers' points there."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        keep = self._searcher.keeps(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if keep else TrialScheduler.STOP)
