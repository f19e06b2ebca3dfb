"""Measures the overhead of a job beside its work.

    python bench/overhead.py                   seconds per job, ours and plain Ray Tune's
    python bench/overhead.py --jobs 100 1000   seconds of the driver before the first job starts

Empty jobs go through a whole launch (plan, Ray Tune, result store, MLflow) on two slots. Beside
them runs stock Ray Tune: the same empty function, default settings, a process per trial. Seconds
per job are wall time after the first job has ended, so that starting Ray counts for neither.

With --jobs the driver alone is measured, from the command to the start of the first of N jobs:
processor seconds of its process, without importing Ray and without waiting for Ray and the first
worker. Each launch is then stopped. The figure should grow in proportion to N.
"""

import argparse
import os
import platform
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from described import described
from rich.console import Console

from fssplat.engine.events import Event, TrialScored
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Job
from fssplat.launching.launch import Launch, Request, plan_from
from fssplat.results.launch_listener import LaunchInfo
from fssplat.results.notes import JobStarted, Note
from fssplat.results.store import Store
from fssplat.tracking.launch_listener import MlflowListener

SLOTS = 2
GRID = "fold: [0, 1, 2, 3], method: [panet], backbone: [resnet50]"
FOLDS = 4  # one training, so one job, for each fold and seed


def empty_job(
    job: Job,
    fingerprints: Mapping[str, str],
    folder: Path,
    emit: Callable[[Event], None],
    stop: Callable[[], bool],
    settings: Any,
) -> None:
    """Write the files and emit the events of a scored trial, without the scoring."""
    for trial_id in job.trial_ids:
        place = folder / "trials" / trial_id
        place.mkdir(parents=True, exist_ok=True)
        (place / "episodes.parquet").write_bytes(b"0" * 10_000)
        emit(TrialScored(trial_id, {"miou": 0.5, "fb_iou": 0.6}, place))


def request_of(jobs: int, folder: Path) -> Request:
    """A launch of so many jobs that runs SLOTS of them at once."""
    path = described(folder, "overhead", GRID, range(jobs // FOLDS))
    return Request(path, (f"resources.cpu={max(1.0, (os.cpu_count() or 1) / SLOTS)}",))


def per_job(jobs: int, folder: Path) -> float:
    """Seconds per job of a launch, from the end of its first job to the end of the launch."""
    request = request_of(jobs, folder)
    plan, store = plan_from(request)
    started = time.time()
    quiet = Console(file=(folder / "screen.txt").open("w"))
    Launch(request, plan, store, quiet, empty_job, [MlflowListener()]).run()
    ended = time.time()
    results = store.results(plan.trials)
    assert len(results) == jobs, f"{len(results)} of {jobs} jobs have a result"
    first = min(result.about["finished_at"] for result in results.values())
    print(f"ours: {jobs} jobs, start-up {first - started:.1f} s", flush=True)
    return (ended - first) / (jobs - 1)


class StopAtFirstJob:
    """A listener that notes the driver's seconds when the first job starts, then stops."""

    def __init__(self) -> None:
        self.driver_s = 0.0

    def check(self, experiment: ExperimentSpec, store: Store, make: bool = True) -> None:
        """Nothing to check."""

    def deliver_finished(self, info: LaunchInfo) -> None:
        """Nothing to deliver."""

    def open(self, info: LaunchInfo) -> None:
        """Nothing to open."""

    def on_note(self, note: Note) -> None:
        if isinstance(note, JobStarted) and not self.driver_s:
            self.driver_s = time.process_time()
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self, stopped: bool) -> None:
        """Nothing to close."""


def until_first_job(jobs: int, folder: Path) -> tuple[float, float]:
    """The driver's seconds for the plan of so many jobs, and from there to the first job."""
    import ray.tune  # noqa: F401 - so that its seconds are not counted

    request = request_of(jobs, folder)
    started = time.process_time()
    plan, store = plan_from(request)
    planned = time.process_time()
    assert len(plan.pending) == jobs, f"{len(plan.pending)} jobs planned, not {jobs}"
    quiet, listener = Console(file=(folder / "screen.txt").open("w")), StopAtFirstJob()
    Launch(request, plan, store, quiet, empty_job, [listener]).run()
    return planned - started, listener.driver_s - planned


def stock(trials: int, folder: Path) -> float:
    """Seconds per trial of Ray Tune with its defaults, from the end of its first trial."""
    import ray
    from ray import tune

    def empty(config: dict[str, Any]) -> dict[str, float]:
        return {"miou": 0.5, "at": time.time()}

    ray.init("local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(empty, {"cpu": 1}),
        param_space={"seed": tune.grid_search(list(range(trials)))},
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    results = tuner.fit()
    ended = time.time()
    ray.shutdown()
    first = min(result.metrics["at"] for result in results)
    return (ended - first) / (trials - 1)


def compare(jobs: int, stock_trials: int) -> None:
    """Print seconds per job, ours and stock Ray Tune's."""
    with tempfile.TemporaryDirectory() as folder:  # first: a launch sets Tune up differently
        stock_s = stock(stock_trials, Path(folder))
    print(f"stock: {stock_s:.3f} s per trial, {stock_trials} trials", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        our_s = per_job(jobs, Path(folder))
    print(f"ours:  {our_s:.3f} s per job, {jobs} jobs")
    print(f"ratio: {stock_s / our_s:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, nargs="+", help="multiples of 4: the start only")
    parser.add_argument("--compared-jobs", type=int, default=300, help="a multiple of 4")
    parser.add_argument("--stock-trials", type=int, default=20, help="of plain Ray Tune")
    arguments = parser.parse_args()
    for jobs in arguments.jobs or ():
        with tempfile.TemporaryDirectory() as folder:
            plan_s, start_s = until_first_job(jobs, Path(folder))
        print(
            f"{jobs} jobs: the driver spends {start_s:.1f} s before the first one starts, "
            f"and {plan_s:.1f} s on the plan",
            flush=True,
        )
    if not arguments.jobs:
        compare(arguments.compared_jobs, arguments.stock_trials)
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
