"""A real data set and a real experiment, small enough for a test."""

import os
import subprocess
import sys
from pathlib import Path

from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.sources.record import SourceOptions

EXPERIMENT = """
name: real
dataset: synthetic
datasets: {{synthetic: {{name: synthetic, root: {data}}}}}
store: {folder}/store
grid: {{fold: [0], shot: [1, 4], method: [prior, panet], backbone: [efficientnet_lite0]}}
training: {{steps: {steps}, batch: 1, size: 65}}
protocol: {{name: fssplat, episodes: 6, episode_seeds: [0], size: 65, score: [original],
           min_area: 1, min_area_query: 1, short_classes: drop}}
evaluation: {{panels: 3}}
"""


def data_set(folder: Path) -> Path:
    options = SourceOptions(train_images=24, val_images=40)
    build("synthetic", out=folder, settings=BuildSettings(options))
    return folder


def experiment(folder: Path, data: Path, steps: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "real.yaml"
    path.write_text(EXPERIMENT.format(folder=folder, data=data, steps=steps))
    return path


def fssplat(*arguments: str | Path) -> subprocess.Popen[str]:
    """The command line in a process of its own, one thread per worker."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", "from fssplat.cli import main; main()"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def said(process: subprocess.Popen[str], timeout_s: float = 280) -> tuple[int, str, str]:
    """Exit code, standard output and standard error once the command has ended."""
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err
