"""Writes an experiment on a data set without images: enough to plan, launch and resume."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from fssplat.data.index import DatasetInfo

EXPERIMENT = """
name: {name}
dataset: synthetic
datasets: {{synthetic: {{name: synthetic, root: {folder}/data}}}}
store: {folder}/store
grid: {{{grid}, seed: [{seeds}]}}
"""


def described(folder: Path, name: str, grid: str, seeds: Iterable[int]) -> Path:
    """Write the description of the data set and the experiment; return the path of the experiment.

    `grid` has every axis but the seed, as the inside of a YAML mapping: "fold: [0], shot: [1]".
    """
    info = DatasetInfo("synthetic", ("a",), "bench", "", "0" * 16, {"train": 100}, ())
    (folder / "data").mkdir()
    (folder / "data" / "dataset.json").write_text(json.dumps(asdict(info)))
    path = folder / f"{name}.yaml"
    all_seeds = ", ".join(map(str, seeds))
    path.write_text(EXPERIMENT.format(name=name, folder=folder, grid=grid, seeds=all_seeds))
    return path
