"""Delivers a launch's notes to MLflow in a separate thread, so that no job waits for MLflow."""

import queue
import threading
import time
from collections.abc import Callable, Mapping

from fssplat.experiment.trial import Trial
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
from fssplat.tracking.runs import Tracking
from fssplat.tracking.server.connection import MlflowError, mlflow_errors
from fssplat.tracking.server.paused_calls import PausedCalls

FLUSH_S = 10.0  # between two deliveries of a running job's curve
PAUSE_S = 30.0  # after a call that failed


class Delivery:
    """MLflow's side of a launch. Failed deliveries are repeated at the end, or by `sync`."""

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
        self._jobs: dict[str, tuple[str, ...]] = {}  # key of a running job -> its trials
        self._curves: dict[str, list[LossAtStep]] = {}
        self._flushed_at = time.monotonic()
        self._server = PausedCalls(PAUSE_S, "the jobs continue and the store keeps results.", warn)
        self.missed: set[str] = set()  # trials whose delivery failed
        self._table_is_old = False  # a trial was delivered after the table was written
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def on_note(self, note: Note) -> None:
        """Queue a note; returns at once."""
        self._notes.put(note)

    def close(self) -> None:
        """Wait until all notes are delivered, and repeat the deliveries that failed."""
        self._notes.put(None)
        self._thread.join()
        self._server.end_pause()
        for trial_id in sorted(self.missed):
            if self._server.succeeds(self._deliver, trial_id):
                self.missed.discard(trial_id)
        self._write_table()
        self._server.end_pause()
        self._end_runs()

    def _end_runs(self) -> None:
        """End the runs that have no end yet: a job was lost, or a delivery failed."""
        cut = {trial_id for trial_ids in self._jobs.values() for trial_id in trial_ids}
        for trial_id in sorted(cut | self.missed):
            reason = "not delivered" if trial_id in self.missed else "the launch ended"
            if not self._server.succeeds(
                self.tracking.end_without_result, trial_id, "pending", reason
            ):
                return

    def _follow(self) -> None:
        while True:
            try:
                note = self._notes.get(timeout=1.0)
                if note is None:
                    return
                self._deliver_note(note)
            except queue.Empty:
                pass
            if time.monotonic() - self._flushed_at > FLUSH_S:
                self._flushed_at = time.monotonic()
                for key in list(self._curves):
                    self._server.succeeds(self._flush, key)
                self._write_table()

    def _deliver_note(self, note: Note) -> None:
        if isinstance(note, JobStarted):
            self._jobs[note.key] = note.trial_ids
            for trial_id in note.trial_ids:
                trial = self._trials[trial_id]
                self._server.succeeds(self.tracking.start_run, trial, trial_id, self._tags(trial))
        elif isinstance(note, JobProgress) and note.points:
            self._curves.setdefault(note.key, []).extend(note.points)
        elif isinstance(note, JobUsage):
            for run_id in self._running(note.key):
                self._server.succeeds(self.tracking.log_usage, run_id, note.seconds, note.values)
        elif isinstance(note, TrialDone):
            if not self._server.succeeds(self._deliver, note.trial_id):
                self.missed.add(note.trial_id)
        elif isinstance(note, TrialEnded):
            self._server.succeeds(self._flush, note.key)
            self._server.succeeds(
                self.tracking.end_without_result, note.trial_id, note.state, note.reason
            )
        elif isinstance(note, JobEnded):
            self._jobs.pop(note.key, None)
            self._curves.pop(note.key, None)

    def _deliver(self, trial_id: str) -> None:
        with mlflow_errors():
            result = self._store.results([trial_id])[trial_id]
        trial = self._trials[trial_id]
        self.tracking.deliver(trial, trial_id, result, self._store, self._tags(trial))
        self._table_is_old = True

    def _write_table(self) -> None:
        if self._table_is_old:
            done = self._server.succeeds(self.tracking.write_table, self._trials)
            self._table_is_old = not done

    def _flush(self, key: str) -> None:
        for run_id in self._running(key):
            self.tracking.log_curve(run_id, self._curves.get(key, []))
        self._curves.pop(key, None)  # after a failure, runs skip known steps

    def _running(self, key: str) -> list[str]:
        """The runs of a job's trials that are not yet delivered."""
        known = [self.tracking.runs.get(trial_id) for trial_id in self._jobs.get(key, ())]
        return [run.run_id for run in known if run is not None and not run.delivered]


def sync(
    tracking: Tracking,
    store: Store,
    trials: Mapping[str, Trial],
    tags: Callable[[Trial], dict[str, str]],
) -> int:
    """Deliver every finished trial that MLflow lacks; returns their number.

    Raises MlflowError: after two failures in a row at once, after a single one when all
    the other trials are delivered.
    """
    tracking.add_table_view(trials.values())
    tracking.find_runs()
    missing = [i for i in trials if not _is_whole(tracking, i)]
    results = store.results(missing)
    failed, failed_in_a_row = 0, 0  # one may be the trial's fault, two in a row are the server's
    away = False
    for trial_id, result in results.items():
        trial = trials[trial_id]
        try:
            tracking.deliver(trial, trial_id, result, store, tags(trial))
            failed_in_a_row = 0
        except MlflowError as error:
            failed, away = failed + 1, error.away
            failed_in_a_row += 1
            if failed_in_a_row > 1:
                raise
    tracking.write_table(trials)
    if failed:
        raise MlflowError(f"{failed} of {len(results)} results were not delivered", away)
    return len(results)


def _is_whole(tracking: Tracking, trial_id: str) -> bool:
    """Whether MLflow has the numbers and the files of a trial."""
    run = tracking.runs.get(trial_id)
    return run is not None and run.delivered and not run.lacks_files
