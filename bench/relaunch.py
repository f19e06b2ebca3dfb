"""Measures how long a launch takes if all trials are finished.

    python bench/relaunch.py                 1,000 trials
    python bench/relaunch.py --trials 40     fewer, in a multiple of 40

The results of a thousand trials are written to a store, and their runs to MLflow. Then the launch
is repeated: it must plan, find every result, start no job, and print the table. For comparison,
`fssplat status` reads the same store and prints no table.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pyarrow as pa
import pyarrow.parquet as pq
from described import described

from fssplat.engine.scoring.rows import SCHEMA
from fssplat.launching.launch import Request, plan_from
from fssplat.tracking.launch_listener import deliver

EPISODES = 100
METHODS = "panet, pfenet, hsnet, hmfs, jc2a"
GRID = f"fold: [0, 1, 2, 3], shot: [1, 5], method: [{METHODS}], backbone: [resnet50]"
CELLS = 40  # of the grid above, for each seed: all its methods are trained


def fill(path: Path, folder: Path, trials: int) -> int:
    """Write a result for each of the `trials` and deliver it to MLflow; return their number."""
    plan, store = plan_from(Request(path))
    assert len(plan.trials) == trials, f"{len(plan.trials)} trials planned, not {trials}"
    row = {field.name: 1 if pa.types.is_integer(field.type) else "1" for field in SCHEMA}
    row |= {"supports": ["1"], "score": "original", "intersection": 1, "union": 2}
    table = pa.Table.from_pylist([row | {"episode": n} for n in range(EPISODES)], schema=SCHEMA)
    for trial_id, trial in plan.trials.items():
        place = folder / "work"
        place.mkdir()
        pq.write_table(table, place / "episodes.parquet")
        store.finish(trial, trial_id, place, {"miou": 0.5, "fb_iou": 0.6})
        place.rmdir()
    plan, store = plan_from(Request(path))
    assert not plan.pending
    return deliver(plan.experiment, store, plan.trials, plan.fingerprints, print) or 0


def seconds(command: str, path: Path) -> tuple[float, str]:
    """Run a command; return its wall time and its standard output."""
    code = "from fssplat.cli import main; main()"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, command, str(path)], capture_output=True, text=True, check=True
    )
    return time.monotonic() - started, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000, help="a multiple of 40")
    arguments = parser.parse_args()
    if arguments.trials < CELLS or arguments.trials % CELLS:
        parser.error(f"--trials {arguments.trials}: give a multiple of {CELLS}")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = described(folder, "relaunch", GRID, range(arguments.trials // CELLS))
        started = time.monotonic()
        filled = fill(path, folder, arguments.trials)
        print(f"{filled} trials filled in, {time.monotonic() - started:.0f} s")
        for turn in ("first", "second"):
            took, said = seconds("launch", path)
            assert "0 jobs left" in " ".join(said.split()), said
            assert not (folder / "store" / "launches").exists(), "a launch was begun"
            print(f"{turn} relaunch: {took:.1f} s, no job started")
        print(f"status: {seconds('status', path)[0]:.1f} s")
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
