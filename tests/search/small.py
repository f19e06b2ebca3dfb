"""A small search over a real data set, objectives that stand in for training, and drivers.

`python -m tests.search.small <file> <objective>` is a driver in a process of its own, with Ray;
with `--here` it runs its points itself, one after the other, without Ray.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rich.console import Console

from fssplat.launching.launch import Request
from fssplat.launching.stop_request import StopRequest
from fssplat.results.notes import Note
from fssplat.search.driver import Drive, search
from fssplat.search.prepare import Prepared, prepare
from fssplat.search.study import open_study
from fssplat.search.worker import (
    Objective,
    PointTask,
    Report,
    Rung,
    as_metrics,
    climb,
    packed,
    perform,
    unpacked,
)

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = {
    "name": "small",
    "dataset": "synthetic",
    "tracking": "none",
    "grid": {"fold": [0], "method": ["panet"], "backbone": ["efficientnet_lite0"]},
    "backbones": {"efficientnet_lite0": {"name": "efficientnet_lite0", "weights": "random"}},
    "training": {"steps": 8, "batch": 1, "size": 65},
    "protocol": {"name": "fssplat", "min_area": 1, "min_area_query": 1, "short_classes": "drop"},
    "resources": {"cpu": 1, "gpu": 0},
}
SPACE = {"loss_weights": {"alignment": {"uniform": [0, 4]}}, "training": {"lr": {"log": [1e-5, 1]}}}


def search_file(folder: Path, data: Path, **section: Any) -> Path:
    """A search over `data`; keys of the `search:` section, or `experiment` for others."""
    others = section.pop("experiment", {})
    plan = {"space": SPACE, "trials": 6, "episodes": 4, "startup": 3, **section}
    values = {
        **SETTINGS,
        "datasets": {"synthetic": {"name": "synthetic", "root": str(data)}},
        "store": str(folder / "store"),
        **others,
        "search": plan,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "small.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


# ------------------------------------------------------------------ objectives


def worth(task: PointTask) -> float:
    """Highest, 1, at a rate of 0.01 and an alignment of 2."""
    rate, weight = task.values["training.lr"], task.values["loss_weights.alignment"]
    assert isinstance(rate, float)
    assert isinstance(weight, float)
    return 1 - 0.1 * (math.log10(rate) + 2) ** 2 - 0.1 * (weight - 2) ** 2


def valley(task: PointTask, folder: Path, report: Report, stopping: Callable[[], bool]) -> None:
    """Nothing is trained; every rung is worth its share of the point's worth."""
    for index, share in enumerate(task.rungs, start=1):
        value = worth(task) - 0.1 * (1 - share)
        report(Rung(index, share, value, 1.0 + task.number, {"fold0": value}, round(100 * share)))


def slow(task: PointTask, folder: Path, report: Report, stopping: Callable[[], bool]) -> None:
    """The valley, a quarter of a second per point; leaves a line for every point begun."""
    with (folder.parent.parent / "begun").open("a") as stream:
        stream.write(f"{task.key}\n")
    time.sleep(0.25)
    valley(task, folder, report, stopping)


OBJECTIVES: dict[str, Objective] = {"valley": valley, "slow": slow, "climb": climb}


# ------------------------------------------------------------------ drivers


class Silent:
    """A channel that never asks to stop."""

    def send(self, notes: list[Note]) -> bool:
        return False


class Pruned(SystemExit):
    """How Tune ends a point that is stopped."""


def run_here(path: Path, objective: Objective = valley, changes: tuple[str, ...] = ()) -> Drive:
    """A whole driver without Ray: points one after the other in this process."""
    from fssplat.search.tune_searcher import SafeOptuna

    request = Request(path, changes)
    prepared = prepare(request)
    study = open_study(prepared.search, prepared.database, prepared.mark)
    drive = Drive(request, prepared, study, Console(quiet=True), objective)

    def pack(number: int, point: dict[str, Any]) -> dict[str, Any]:
        return {"task": packed(drive.task(number, point, 1.0, 0.0))}

    stop, news = StopRequest(), SimpleQueue[Any]()
    searcher = SafeOptuna(prepared.search, study, prepared.database, 1, stop, pack, news)
    for turn in range(10_000):
        config = searcher.suggest(str(turn))
        if config == "FINISHED":
            break
        if config is not None:
            run_point(searcher, str(turn), unpacked(config["task"]), objective)
    return drive


def run_point(searcher: Any, trial_id: str, task: PointTask, objective: Objective) -> None:
    """What Tune does with a point."""
    last: dict[str, Any] = {}

    def report(rung: Rung) -> None:
        last.update(as_metrics(rung))
        if not searcher.keeps(trial_id, last):
            raise Pruned

    try:
        end = perform(task, report, Silent(), objective)
        last.update(state=end.state, reason=end.reason)
    except Pruned:
        pass
    searcher.on_trial_complete(trial_id, last)


def driver(*arguments: str | Path) -> "subprocess.Popen[str]":
    """A driver in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.search.small", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def prepared_of(path: Path) -> Prepared:
    return prepare(Request(path))


if __name__ == "__main__":
    chosen = OBJECTIVES[sys.argv[2]]
    if "--here" in sys.argv:
        run_here(Path(sys.argv[1]), chosen)
    else:
        sys.exit(search(Request(Path(sys.argv[1])), objective=chosen))
