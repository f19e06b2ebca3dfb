"""Search files, objectives that replace the training of a point, and drivers."""

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

import optuna
from rich.console import Console

from fssplat.launching.launch import Request
from fssplat.launching.stop_request import StopRequest
from fssplat.search.driver import SearchDriver
from fssplat.search.prepare import Prepared, prepare
from fssplat.search.study import open_study
from fssplat.search.worker import (
    MilestoneScore,
    Objective,
    PointTask,
    Report,
    as_metrics,
    packed,
    perform,
    train_to_milestones,
    unpacked,
)
from tests.fakes.engines import RecordedNotes

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


def formula(task: PointTask) -> float:
    """Highest, 1, at a rate of 0.01 and an alignment of 2."""
    rate, weight = task.values["training.lr"], task.values["loss_weights.alignment"]
    assert isinstance(rate, float)
    assert isinstance(weight, float)
    return 1 - 0.1 * (math.log10(rate) + 2) ** 2 - 0.1 * (weight - 2) ** 2


def score_by_formula(
    task: PointTask, folder: Path, report: Report, stopping: Callable[[], bool]
) -> None:
    """Train nothing; report `formula` at every milestone, less 0.1 times the missing share."""
    for index, share in enumerate(task.shares, start=1):
        value = formula(task) - 0.1 * (1 - share)
        report(
            MilestoneScore(
                index, share, value, 1.0 + task.number, {"fold0": value}, round(100 * share)
            )
        )


def score_by_formula_slowly(
    task: PointTask, folder: Path, report: Report, stopping: Callable[[], bool]
) -> None:
    """`score_by_formula` in 0.25 s per point; appends each started point to the file `begun`."""
    with (folder.parent.parent / "begun").open("a") as stream:
        stream.write(f"{task.key}\n")
    time.sleep(0.25)
    score_by_formula(task, folder, report, stopping)


OBJECTIVES: dict[str, Objective] = {
    "score_by_formula": score_by_formula,
    "score_by_formula_slowly": score_by_formula_slowly,
    "train_to_milestones": train_to_milestones,
}


# ------------------------------------------------------------------ drivers


class Pruned(SystemExit):
    """Ends a point that the searcher stops, as Tune does."""


def search_without_ray(
    path: Path, objective: Objective = score_by_formula, changes: tuple[str, ...] = ()
) -> SearchDriver:
    """Run a whole driver without Ray: its points one after the other in this process."""
    from fssplat.search.tune_searcher import StudySearcher

    request = Request(path, changes)
    prepared = prepare(request)
    study = open_study(prepared.search, prepared.database, prepared.mark)
    drive = SearchDriver(request, prepared, study, Console(quiet=True), objective)

    def pack(number: int, point: dict[str, Any]) -> dict[str, Any]:
        return {"task": packed(drive.task(number, point, 1.0, 0.0))}

    stop, news = StopRequest(), SimpleQueue[Any]()
    searcher = StudySearcher(prepared.search, study, prepared.database, 1, stop, pack, news)
    for turn in range(10_000):
        config = searcher.suggest(str(turn))
        if config == "FINISHED":
            break
        if config is not None:
            run_point(searcher, str(turn), unpacked(config["task"]), objective)
    return drive


def run_point(searcher: Any, trial_id: str, task: PointTask, objective: Objective) -> None:
    """Run a point and report to the searcher, as Tune does."""
    last: dict[str, Any] = {}

    def report(rung: MilestoneScore) -> None:
        last.update(as_metrics(rung))
        if not searcher.keeps(trial_id, last):
            raise Pruned

    try:
        end = perform(task, report, RecordedNotes(), objective)
        last.update(state=end.state, reason=end.reason)
    except Pruned:
        pass
    searcher.on_trial_complete(trial_id, last)


def start_driver(*arguments: str | Path) -> "subprocess.Popen[str]":
    """Start a driver in its own process; see processes/search.py."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.processes.search", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def prepared_of(path: Path) -> Prepared:
    return prepare(Request(path))


def opened(prepared: Prepared) -> optuna.Study:
    return open_study(prepared.search, prepared.database, prepared.mark)


def constant(task: PointTask, folder: Path, report: Report, stopping: Any) -> None:
    report(MilestoneScore(1, 1.0, 0.5, 1.0, {"fold0": 0.5}))
