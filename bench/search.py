"""Compares a search with a grid, and measures the overhead of a search.

    python bench/search.py planted     TPE with ASHA against a grid over a loss weight that matters
    python bench/search.py overhead    points without training, through all of fssplat

Planted: the method of bench/planted.py on synthetic images, scored by mIoU on held-out base
classes. The weight of its loss is searched over six decades. The value in the file, which is always
tried first, is the lowest one, at which nothing is learnt. The grid trains each of its values to
the end and so finds the optimum. Both count optimiser steps; a pruned point counts those it took.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from rich.console import Console

from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.sources.record import SourceOptions
from fssplat.engine.settings import Diverged
from fssplat.launching.cluster import cluster
from fssplat.launching.launch import Request
from fssplat.results.environment import commit
from fssplat.search.driver import SearchDriver, search
from fssplat.search.output import EndedPoint, best_point, ended_points
from fssplat.search.prepare import prepare
from fssplat.search.study import open_study
from fssplat.search.worker import MilestoneScore, Objective, PointTask, Report, train_to_milestones

WEIGHT = "loss_weights.segmentation"
LOW, HIGH = 1e-2, 1e4
NEAR = 0.05  # largest relative distance to the best grid value
SETTINGS: dict[str, Any] = {
    "name": "planted",
    "dataset": "synthetic",
    "tracking": "none",
    "grid": {
        "fold": [0],
        "method": [{"name": "planted:Planted", "loss_weights": {"segmentation": LOW}}],
        "backbone": ["efficientnet_lite0"],
    },
    "resources": {"cpu": 1, "gpu": 0},
}


def search_file(folder: Path, data: Path, steps: int, **section: Any) -> Path:
    values = {
        **SETTINGS,
        "datasets": {"synthetic": {"name": "synthetic", "root": str(data)}},
        "store": str(folder / "store"),
        "training": {"steps": steps},
        **section.pop("experiment", {}),
        "search": {"space": {WEIGHT: {"log": [LOW, HIGH]}}, **section},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "search.yaml"
    path.write_text(json.dumps(values))
    return path


def drive_of(path: Path) -> SearchDriver:
    prepared = prepare(Request(path))
    study = open_study(prepared.search, prepared.database, prepared.mark)
    return SearchDriver(Request(path), prepared, study, Console(quiet=True), None)


# ------------------------------------------------------------------ a planted optimum


def grid(folder: Path, data: Path, steps: int, points: int, episodes: int) -> dict[float, float]:
    """mIoU of every grid value after a whole training: `points` trainings of `steps` steps."""
    path = search_file(folder, data, steps, trials=1, milestones=[1.0], episodes=episodes)
    drive = drive_of(path)
    found: dict[float, float] = {}
    for place in range(points):
        weight = LOW * (HIGH / LOW) ** (place / (points - 1))
        seen: list[MilestoneScore] = []
        own = folder / f"grid{place}"
        own.mkdir()
        with suppress(Diverged):
            train_to_milestones(
                drive.task(place, {WEIGHT: weight}, 1.0, 0.0), own, seen.append, lambda: False
            )
        found[weight] = seen[-1].miou if seen else 0.0
        print(f"  grid  weight {weight:9.4g}  mIoU {100 * found[weight]:6.2f}", flush=True)
    return found


def planted(arguments: argparse.Namespace, data: Path, folder: Path) -> dict[str, Any]:
    steps, episodes = arguments.steps, arguments.episodes
    values = grid(folder / "grid", data, steps, arguments.grid, episodes)
    whole, best = arguments.grid * steps, max(values.values())
    ratios, shares = [], []
    with cluster():
        for seed in range(arguments.seeds):
            own = folder / f"seed{seed}"
            plan = {"trials": arguments.trials, "episodes": episodes, "seed": seed}
            milestones = [0.25, 0.5, 1.0]
            path = search_file(
                own, data, steps, startup=4, reduction=3, milestones=milestones, **plan
            )
            search(Request(path), Console(quiet=not arguments.verbose))
            ended = ended_points(drive_of(path).search, drive_of(path).study)
            top = best_point(ended)
            assert top is not None
            ratios.append(top.values["miou"] / best)
            shares.append(sum(taken(one, steps, milestones) for one in ended) / whole)
            print(
                f"  seed {seed}: weight {top.point[WEIGHT]:.4g}, {ratios[-1]:.1%} of the best grid "
                f"value in {shares[-1]:.1%} of its steps",
                flush=True,
            )
    ratio, share = statistics.median(ratios), statistics.median(shares)
    return {
        "best_grid_miou": best,
        "default_miou": values[LOW],
        "of_best_median": ratio,
        "of_best": ratios,
        "steps_share_median": share,
        "steps_share": shares,
        "holds": ratio >= 1 - NEAR and share <= 0.4,
    }


def taken(one: EndedPoint, steps: int, milestones: list[float]) -> float:
    """Optimiser steps of a point; if it diverged, the steps up to its next milestone."""
    if one.state != "diverged":
        return one.steps
    return steps * next(share for share in milestones if share * steps > one.steps)


# ------------------------------------------------------------------ overhead


def nothing(task: PointTask, folder: Path, report: Report, stopping: Callable[[], bool]) -> None:
    """Report all milestones at once; the score is a function of the point."""
    value = 1 / (1 + abs(float(str(task.values[WEIGHT])) - 1))
    for index, share in enumerate(task.shares, start=1):
        report(MilestoneScore(index, share, value * share, 1.0, {"fold0": value * share}, index))


def overhead(arguments: argparse.Namespace, data: Path, folder: Path) -> dict[str, Any]:
    """Seconds per point, from a warm start to the end of the search with its files."""
    experiment = {} if arguments.no_tracking else {"tracking": f"sqlite:///{folder}/mlflow.db"}
    path = search_file(
        folder, data, 100, trials=arguments.trials, episodes=4, experiment=experiment
    )
    with cluster():
        once(folder / "first", data, nothing)  # starts the workers and fills the caches
        started = time.monotonic()
        search(Request(path), Console(quiet=True), nothing)
        seconds = time.monotonic() - started
    ended = ended_points(drive_of(path).search, drive_of(path).study)
    assert len(ended) == arguments.trials
    return {
        "points": len(ended),
        "seconds": seconds,
        "seconds_per_point": seconds / len(ended),
        "tracking": not arguments.no_tracking,
        "holds": seconds / len(ended) <= 0.5,
    }


def once(folder: Path, data: Path, objective: Objective) -> None:
    search(Request(search_file(folder, data, 100, trials=2)), Console(quiet=True), objective)


# ------------------------------------------------------------------ running it


@contextmanager
def place(arguments: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """Yield the folder of the data set and a working folder, both temporary."""
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "synthetic"
        options = SourceOptions(train_images=160, val_images=160, workers=1)
        build("synthetic", Path(scratch) / "raw", data, BuildSettings(options=options, workers=1))
        yield data, Path(scratch)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("planted")
    one.set_defaults(call=planted)
    one.add_argument("--grid", type=int, default=16, help="values of the grid")
    one.add_argument("--steps", type=int, default=64, help="of a whole training")
    one.add_argument("--trials", type=int, default=10)
    one.add_argument("--seeds", type=int, default=5)
    one.add_argument("--episodes", type=int, default=40)
    one.add_argument("--verbose", action="store_true", help="a line per point")
    two = commands.add_parser("overhead")
    two.set_defaults(call=overhead)
    two.add_argument("--trials", type=int, default=200)
    two.add_argument("--no-tracking", action="store_true")
    arguments = parser.parse_args()
    with place(arguments) as (data, folder):
        found = arguments.call(arguments, data, folder)
    load = [round(value, 1) for value in os.getloadavg()]
    about = {"commit": commit()[:7], "cores": os.cpu_count(), "load": load}
    print(json.dumps({**found, **about, "machine": platform.platform()}, indent=1))


if __name__ == "__main__":
    main()
