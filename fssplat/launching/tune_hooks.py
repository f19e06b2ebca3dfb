"""The two hooks that Ray Tune calls in the driver. Imports Ray, so it is imported late."""

import time
from typing import Any

from ray import tune
from ray.tune.stopper import Stopper

from fssplat.common.disk_space import states_disk_full
from fssplat.experiment.grid import Job
from fssplat.launching.session import LIVES, UNSEEN, Session, Stop, mark_lost
from fssplat.worker.claimed_job import Outcome


class Unkept:
    """Tune pickles its hooks to restore them one day; ours hold threads and are never restored."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Watch(Unkept, tune.Callback):
    """Keeps how every job ended, and which ones run."""

    def __init__(self, jobs: dict[str, Job], session: Session, stop: Stop) -> None:
        self._jobs, self._session, self._stop = jobs, session, stop
        self.outcomes: dict[str, Outcome] = {}
        self.working: set[str] = set()  # started before a stop was asked for, not ended yet

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        if not self._stop.asked.is_set():
            self.working.add(_key(trial))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        key, last = _key(trial), trial.last_result or {}
        self.working.discard(key)
        if "state" in last:
            self.outcomes[key] = Outcome(key, last["state"], last.get("reason", ""))
            if last["state"] == "failed" and _stops_every_job(last.get("reason", "")):
                self._stop.ask(because=last["reason"])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.working.discard(_key(trial))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        key = _key(trial)
        self.working.discard(key)
        if self._stop.asked.is_set():
            return  # its worker was taken away: the next launch goes on
        reason = f"its worker failed {LIVES + 1} times; last: {_cause(trial)}"
        mark_lost(self._jobs[key], reason, self._session)
        self.outcomes[key] = Outcome(key, "failed", reason)


class Halt(Unkept, Stopper):
    """Ends the run once a stop was asked for and every running job has left a checkpoint."""

    def __init__(self, watch: Watch, stop: Stop, grace_s: float) -> None:
        self._watch, self._stop, self._grace_s = watch, stop, grace_s

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self._stop.asked.is_set():
            return False
        late = time.monotonic() - self._stop.since > self._grace_s
        return late or self._stop.insisted or not self._watch.working


def _stops_every_job(reason: str) -> bool:
    """Whether the next job would fail in the same way: a full disk, or the wrong store."""
    return states_disk_full(reason) or UNSEEN in reason


def _key(trial: Any) -> str:
    return str(trial.config["task"]["key"])


def _cause(trial: Any) -> str:
    """The last line of what Ray caught."""
    error = trial.get_error() if hasattr(trial, "get_error") else None
    lines = str(error or "").strip().splitlines()
    return lines[-1][:200] if lines else "it died without a word"
