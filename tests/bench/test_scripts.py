"""Every script in bench/ runs to its end at a small size, and prints its numbers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# script and arguments -> a pattern of each line that must be printed
SMALL_RUNS = {
    "evaluate.py --method hsnet --shot 1 --episodes 3 --size 97": [
        r"^hsnet +1-shot 97px: +[\d.]+ x +3 episodes", r"largest difference of a count: 0 pixels",
    ],
    "loader.py --steps 2 --pairs 1 --workers 1": [
        r"^0 workers, [\d.]+ episodes/s", r"^1 workers", r"^samples by offset, over by name: ",
    ],
    "makespan.py --jobs 80 --gpus 4 --seeds 2 --trials 80": [
        r"^a GPU each: longest first [\d.]+", r"^plan of 80 trials: ",
    ],
    "overhead.py --compared-jobs 4 --stock-trials 3": [
        r"^stock: +[\d.]+ s per trial, 3 trials", r"^ours: +[\d.]+ s per job, 4 jobs", r"^ratio: ",
    ],
    "overhead.py --jobs 4": [r"^4 jobs: the driver spends [\d.]+ s"],
    "predict.py --queries 4 --parts 2 --size 97 --cpu": [r"^whole / pure [\d.]+"],
    "predictions.py --episodes 4 --size 97": [
        r"^masks: \d+ bytes an episode", r"^other thread: [\d.]+ ms an episode",
    ],
    "relaunch.py --trials 40": [
        r"^40 trials filled in", r"^second relaunch: [\d.]+ s, no job started", r"^status: ",
    ],
    "report.py --store {store} --data {data} --set profile=smoke --grid grid.fold=[0] "
    "grid.shot=[1] grid.backbone=[resnet50]": [
        r"^quickstart: [\d.]+ s .*page [\d.]+ MB", r"^18 trials: .* memory \d+ MB",
        r"^some of them: ",
    ],
    "search.py overhead --trials 4": [r'"points": 4', r'"seconds_per_point": [\d.]+'],
    "search.py planted --grid 3 --steps 8 --trials 3 --seeds 1 --episodes 4": [
        r"seed 0: weight ", r'"best_grid_miou": [\d.]+', r'"steps_share_median": [\d.]+',
    ],
    "step.py --against HEAD --method hsnet pfenet --work head step five --size 97 --pairs 1": [
        r"^hsnet +head +fp32 97px: [\d.]+ x", r"^pfenet +step +bf16 97px: [\d.]+ x",
    ],
    "serve.py --requests 12 --clients 3": [
        r"^12 requests from 3 clients: 0 errors", r"^p99 / median [\d.]+", r"^memory: first ",
        r"^kill -9 and restart: supports kept: True",
        r"^20 of 20 hostile requests refused, supports unharmed: True",
    ],
    "time.py --size 97 --rounds 1 --episodes 1 --packed 4": [
        r"^plain loop +pfenet / hsnet [\d.]+", r"^fssplat time +pfenet / hsnet [\d.]+",
        r"^cache_gb 8, batch 8 ", r"^after packed scoring ",
    ],
}  # fmt: skip
SCRIPTS = sorted({run.split()[0] for run in SMALL_RUNS})
REAL_IMAGES = ("evaluate.py", "loader.py", "predictions.py", "time.py")  # scripts that need them
HELPERS = {"described.py", "planted.py"}  # imported by scripts


def output_of(arguments: str) -> str:
    """Run a script; return its standard output after it ended with exit code 0."""
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, *f"bench/{arguments}".split()]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def finished_quickstart(synthetic: Path, tmp_path: Path) -> dict[str, Path]:
    """The store of a quickstart with few steps and episodes, and the folder of its data set."""
    command = [sys.executable, "-m", "fssplat", "launch", "experiments/quickstart.yaml"]
    changes = ("profile=smoke", f"store={tmp_path / 'store'}", "tracking=none")
    command += [part for one in changes for part in ("--set", one)]
    environment = {**os.environ, "FSSPLAT_DATA": str(synthetic.parent)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {"store": tmp_path / "store", "data": synthetic.parent}


def test_every_script_has_a_small_run() -> None:
    assert {path.name for path in (ROOT / "bench").glob("*.py")} == {*SCRIPTS, *HELPERS}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", SMALL_RUNS, ids=lambda run: run)
def test_a_script_ends_well_and_prints_its_numbers(
    arguments: str, request: pytest.FixtureRequest
) -> None:
    patterns = SMALL_RUNS[arguments]
    if arguments.startswith(REAL_IMAGES):
        request.getfixturevalue("shared")
    if "{store}" in arguments:
        arguments = arguments.format(**request.getfixturevalue("finished_quickstart"))
    printed = output_of(arguments)
    for pattern in patterns:
        assert re.search(pattern, printed, re.MULTILINE), (pattern, printed)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_help_of_a_script_has_an_example(script: str) -> None:
    assert re.search(rf"^ *python bench/{script}\b.*  \w", output_of(f"{script} --help"), re.M)
