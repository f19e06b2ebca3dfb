"""Carries a launch's notes to MLflow from a thread of its own, so that no job waits for it."""

import queue
import threading
import time
from collections.abc import Callable, Mapping

from fssplat.experiment.grid import Trial
from fssplat.results.notes import (
    JobEnded,
    JobProgress,
    JobStarted,
    JobUsage,
    LossAtStep,
    Note,
    TrialDone,
    TrialEnded,
)
from fssplat.results.store import Store
from fssplat.tracking.mlflow import Away, Tracking, away
from fssplat.tracking.patience import Patience

FLUSH_S = 10.0  # a running job's curve is sent this often
REST_S = 30.0  # a silent server is left alone this long


class Delivery:
    """Follows a launch. What a silent server missed is delivered at the end, or by `sync`."""

    def __init__(
        self,
        tracking: Tracking,
        store: Store,
        trials: Mapping[str, Trial],
        tags: Callable[[Trial], dict[str, str]],
        warn: Callable[[str], None],
    ) -> None:
        self.tracking, self._store, self._trials = tracking, store, trials
        self._tags = tags
        self._notes: queue.Queue[Note | None] = queue.Queue()
        self._jobs: dict[str, tuple[str, ...]] = {}  # running job -> its trials
        self._points: dict[str, list[LossAtStep]] = {}
        self._flushed = time.monotonic()
        self._server = Patience(REST_S, "the jobs go on and results are kept.", warn)
        self.missed: set[str] = set()  # trials whose delivery failed
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def hear(self, note: Note) -> None:
        """Take a note and return at once."""
        self._notes.put(note)

    def close(self) -> None:
        """Wait until everything heard is said, and try once more what was missed."""
        self._notes.put(None)
        self._thread.join()
        self._server.end_rest()
        for trial_id in sorted(self.missed):
            if not self._server.tries(self._deliver, trial_id):
                return
            self.missed.discard(trial_id)

    def _follow(self) -> None:
        while True:
            try:
                note = self._notes.get(timeout=1.0)
                if note is None:
                    return
                self._take(note)
            except queue.Empty:
                pass
            if time.monotonic() - self._flushed > FLUSH_S:
                self._flushed = time.monotonic()
                for key in list(self._points):
                    self._server.tries(self._flush, key)

    def _take(self, note: Note) -> None:
        if isinstance(note, JobStarted):
            self._jobs[note.key] = note.trial_ids
            for trial_id in note.trial_ids:
                trial = self._trials[trial_id]
                self._server.tries(self.tracking.begin, trial, trial_id, self._tags(trial))
        elif isinstance(note, JobProgress) and note.points:
            self._points.setdefault(note.key, []).extend(note.points)
        elif isinstance(note, JobUsage):
            for run_id in self._running(note.key):
                self._server.tries(self.tracking.usage, run_id, note.seconds, note.values)
        elif isinstance(note, TrialDone):
            if not self._server.tries(self._deliver, note.trial_id):
                self.missed.add(note.trial_id)
        elif isinstance(note, TrialEnded):
            self._server.tries(self._flush, note.key)
            self._server.tries(self.tracking.give_up, note.trial_id, note.state, note.reason)
        elif isinstance(note, JobEnded):
            self._jobs.pop(note.key, None)
            self._points.pop(note.key, None)

    def _deliver(self, trial_id: str) -> None:
        with away():
            result = self._store.results([trial_id])[trial_id]
        trial = self._trials[trial_id]
        self.tracking.deliver(trial, trial_id, result, self._store, self._tags(trial))

    def _flush(self, key: str) -> None:
        for run_id in self._running(key):
            self.tracking.curve(run_id, self._points.get(key, []))
        self._points.pop(key, None)  # once all have them; a run takes no step twice

    def _running(self, key: str) -> list[str]:
        """The runs of a job's trials that are not yet whole."""
        known = [self.tracking.runs.get(trial_id) for trial_id in self._jobs.get(key, ())]
        return [run.run_id for run in known if run is not None and not run.delivered]


def sync(
    tracking: Tracking,
    store: Store,
    trials: Mapping[str, Trial],
    tags: Callable[[Trial], dict[str, str]],
) -> int:
    """Deliver every finished trial that MLflow lacks; how many those were.

    Raises Away, but not before the others had their turn where one alone does not get through.
    """
    tracking.arrange(trials.values())
    tracking.find()
    lacking = [i for i in trials if i not in tracking.runs or not tracking.runs[i].delivered]
    results = store.results(lacking)
    failed: list[Away] = []  # in a row: one is that trial's own trouble, two are the server's
    missed = 0
    for trial_id, result in results.items():
        trial = trials[trial_id]
        try:
            tracking.deliver(trial, trial_id, result, store, tags(trial))
            failed.clear()
        except Away as error:
            missed += 1
            failed.append(error)
            if len(failed) > 1:
                raise
    if missed:
        raise Away(f"{missed} of {len(results)} results were not delivered; the others were")
    return len(results)
