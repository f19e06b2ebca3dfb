"""The objects that Ray Tune calls in the driver: job searcher, outcome callback, stopper.

This module imports Ray, so other modules import it inside functions.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from fssplat.common.disk_space import states_disk_full
from fssplat.experiment.trial import Job
from fssplat.launching.cluster import Node, nodes
from fssplat.launching.context import UNSEEN, LaunchContext, mark_lost
from fssplat.launching.stop_request import StopRequest
from fssplat.results.notes import JobProgress
from fssplat.worker.process import Outcome

MAX_OUT_OF_MEMORY = 10  # ends of one task's worker by it, in one run
# Why a worker ended; part of the reason of a job that fails by it.
OUT_OF_MEMORY = "its worker was ended by Ray's memory monitor because the machine ran out of memory"


class NotRestored:
    """Tune pickles its hooks so that it could restore them; these contain threads and locks."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class JobSearcher(NotRestored, Searcher):
    """Gives Tune the next task whenever it has room for one, in the given order.

    `tune.grid_search` over all tasks would be shorter, but Tune copies the whole list for each.
    """

    def __init__(self, tasks: Iterable[Mapping[str, Any]], stop: StopRequest) -> None:
        super().__init__()
        self._tasks, self._stop = iter(tasks), stop

    def suggest(self, trial_id: str) -> Any:
        """The next task, or FINISHED."""
        if self._stop.requested.is_set():
            return Searcher.FINISHED
        return next(self._tasks, Searcher.FINISHED)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: `OutcomeCallback` records how jobs end."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: no Tuner is ever restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as nothing was saved."""


class OutcomeCallback(NotRestored, tune.Callback):
    """Records which jobs run and how every job ended."""

    def __init__(self, jobs: Mapping[str, Job], context: LaunchContext, stop: StopRequest) -> None:
        self._jobs, self._context, self._stop = jobs, context, stop
        self.outcomes: dict[str, Outcome] = {}
        self.running: set[str] = set()  # started before a stop request, not ended yet

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        if not self._stop.requested.is_set():
            self.running.add(_key(trial))
            self._context.on_note(JobProgress(_key(trial), "starting a worker", 0.0))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        key, last = _key(trial), trial.last_result or {}
        self.running.discard(key)
        if "state" in last:
            self.outcomes[key] = Outcome(last["state"], last.get("reason", ""))
            if last["state"] == "failed" and _stops_every_job(last.get("reason", "")):
                self._stop.request(reason=last["reason"])

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.running.discard(_key(trial))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        key = _key(trial)
        self.running.discard(key)
        if self._stop.requested.is_set():
            return  # the stop ended its worker; the next launch resumes the job
        times = trial.run_metadata.num_failures
        reason = f"its worker failed {times} times; last: {_cause(trial)}"
        mark_lost(self._jobs[key], reason, self._context)
        self.outcomes[key] = Outcome("failed", reason)


class AloneAfterOutOfMemory(NotRestored, tune.Callback):
    """Lets a task run alone on a machine after Ray's memory monitor ended its worker twice.

    The task then reserves a whole machine. Its own cores and its arithmetic stay the same.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        """`say` prints a line for the user."""
        self._say = say
        self._ended: Counter[str] = Counter()  # by the task's name

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        trial.config.pop("lost", None)
        if not is_out_of_memory(errors_of(trial)):
            return
        name = _key(trial)
        self._ended[name] += 1
        trial.config["lost"] = OUT_OF_MEMORY
        if self._ended[name] == 1:
            self._say(f"{name}: {OUT_OF_MEMORY}; it starts again from its last checkpoint.")
            return
        if self._ended[name] == 2:
            self._say(f"{name}: {OUT_OF_MEMORY} again; it goes on alone, one job at a time.")
        if self._ended[name] >= MAX_OUT_OF_MEMORY:
            trial.max_failures = 0  # its next loss is its last
            return
        whole = _whole_machine(trial.config["gpu"])
        if whole["CPU"] >= trial.config["cpu"]:
            trial.update_resources(tune.PlacementGroupFactory([whole]))


class StopWhenIdle(NotRestored, Stopper):
    """Ends the run after a stop request, once no task runs any more or the grace time is over."""

    def __init__(
        self,
        stop: StopRequest,
        idle: Callable[[], bool],
        grace_s: float,
        ask_workers: Callable[[], object],
    ) -> None:
        """`ask_workers` is called once, at the stop request."""
        self._stop, self._idle, self._grace_s = stop, idle, grace_s
        self._ask_workers, self._asked = ask_workers, False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self._stop.requested.is_set():
            return False
        if not self._asked:
            self._asked = True
            self._ask_workers()
        return self._stop.grace_is_over(self._grace_s) or self._idle()


def is_out_of_memory(errors: str) -> bool:
    """Whether the last error in the file that Tune keeps is from Ray's memory monitor."""
    return "node running low on memory" in errors.rpartition("Failure #")[2]


def _whole_machine(gpu: float) -> dict[str, float]:
    """All cores, and all GPUs, of the largest machine that has `gpu` GPUs."""
    found = [node for node in nodes(ray) if node.gpus >= gpu]
    largest = max(found, key=lambda node: (node.cpus, node.gpus), default=Node(0, 0))
    return {"CPU": largest.cpus, **({"GPU": largest.gpus} if largest.gpus else {})}


def _stops_every_job(reason: str) -> bool:
    """Whether every further job would fail in the same way: a full disk, or an unseen store."""
    return states_disk_full(reason) or UNSEEN in reason


def _key(trial: Any) -> str:
    return str(trial.config["name"])


def _cause(trial: Any) -> str:
    """The first line of the last error of a task."""
    if is_out_of_memory(errors_of(trial)):
        return OUT_OF_MEMORY
    lines = errors_of(trial).rpartition("Failure #")[2].strip().splitlines()[1:]
    return lines[0][:200] if lines else "it died without a message"


def errors_of(trial: Any) -> str:
    """The errors of a task so far, from the file that Tune keeps on the driver's disk."""
    path = Path(trial.error_file or "")
    return path.read_text(errors="replace") if path.is_file() else ""
