"""Experiment files for tests."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fssplat.data.index import DatasetInfo

FINGERPRINT = "0" * 16


def experiment_without_images(folder: Path, **settings: str) -> Path:
    """An experiment file over a data set that has a description and no images."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    info = DatasetInfo("synthetic", ("a",), "test", "", FINGERPRINT, {"train": 100}, ())
    (data / "dataset.json").write_text(json.dumps(asdict(info)))
    values = {
        "name": "small",
        "dataset": "synthetic",
        "datasets": f"{{synthetic: {{name: synthetic, root: {data}}}}}",
        "store": str(folder / "store"),
        "grid": "{method: [panet], shot: [1, 5], seed: [0, 1]}",
        "training": "{steps: 4}",
        **settings,
    }
    path = folder / "small.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    return path


def experiment_with_images(folder: Path, data: Path, steps: int = 3, **settings: Any) -> Path:
    """A file of 4 trials in 2 jobs over the built data set `data`; `settings` replace sections."""
    protocol = {"name": "fssplat", "episodes": 6, "episode_seeds": [0], "size": 65}
    protocol |= {"score": ["original"], "min_area": 1, "min_area_query": 1}
    values = {
        "name": "real",
        "dataset": "synthetic",
        "datasets": {"synthetic": {"name": "synthetic", "root": str(data)}},
        "store": str(folder / "store"),
        "grid": {
            "fold": [0],
            "shot": [1, 4],
            "method": ["prior", "panet"],
            "backbone": ["efficientnet_lite0"],
        },
        "training": {"steps": steps, "batch": 1, "size": 65},
        "protocol": {**protocol, "short_classes": "drop"},
        "evaluation": {"panels": 3},
        **settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "real.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


def experiment_of_many_jobs(folder: Path, data: Path, jobs: int, tracking: str = "none") -> Path:
    """A file of `jobs` jobs of two trials each, half PANet and half HSNet."""
    lite0 = "efficientnet_lite0"
    return experiment_with_images(
        folder,
        data,
        steps=10,
        backbones={lite0: {"name": lite0, "weights": "random"}},
        grid={
            "shot": [1, 4],
            "method": ["panet", "hsnet"],
            "backbone": [lite0],
            "seed": list(range(jobs // 2)),
        },
        evaluation={"panels": 0},
        tracking=tracking,
    )
