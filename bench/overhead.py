"""Measures the overhead of a job beside its work: python bench/overhead.py

Empty jobs go through a whole launch (plan, Ray Tune, result store, MLflow) on two slots. They
are compared with Ray Tune at its default settings: an empty function, a process per trial. Seconds
per job are wall time after the end of the first job, so that the start of Ray counts for neither.
"""

import argparse
import os
import platform
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
from fssplat.experiment.trial import Job
from fssplat.launching.launch import Launch, Request, plan_from

SLOTS = 2
GRID = "method: [prior], backbone: [resnet50]"


def empty_job(
    job: Job,
    fingerprints: Mapping[str, str],
    folder: Path,
    emit: Callable[[Event], None],
    stop: Callable[[], bool],
    settings: Any,
) -> None:
    """Write the files and send the events of scored trials, without any scoring."""
    for trial_id in job.trial_ids:
        place = folder / "trials" / trial_id
        place.mkdir(parents=True, exist_ok=True)
        (place / "episodes.parquet").write_bytes(b"0" * 10_000)
        emit(TrialScored(trial_id, {"miou": 0.5, "fb_iou": 0.6}, place))


def ours(jobs: int, folder: Path) -> float:
    """Seconds per job of a launch, from the end of its first job to the end of the launch."""
    path = described(folder, "overhead", GRID, range(jobs))
    request = Request(path, (f"resources.cpu={max(1.0, (os.cpu_count() or 1) / SLOTS)}",))
    plan, store = plan_from(request)
    started = time.time()
    quiet = Console(file=(folder / "screen.txt").open("w"))
    Launch(request, plan.experiment, plan, store, quiet, empty_job).run()
    ended = time.time()
    results = store.results(plan.trials)
    assert len(results) == jobs, f"{len(results)} of {jobs} jobs have a result"
    first = min(result.about["finished_at"] for result in results.values())
    print(f"ours: {jobs} jobs, start-up {first - started:.1f} s", flush=True)
    return (ended - first) / (jobs - 1)


def stock(trials: int, folder: Path) -> float:
    """Seconds per trial of Ray Tune as it comes, from the end of its first trial."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--stock-trials", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:  # first: a launch sets Tune up differently
        stock_s = stock(arguments.stock_trials, Path(folder))
    print(f"stock: {stock_s:.3f} s per trial, {arguments.stock_trials} trials", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        our_s = ours(arguments.jobs, Path(folder))
    print(f"ours:  {our_s:.3f} s per job, {arguments.jobs} jobs")
    print(f"ratio: {stock_s / our_s:.1f}")
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
