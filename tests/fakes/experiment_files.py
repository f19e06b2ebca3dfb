"""Experiment files for tests."""

import json
from dataclasses import asdict
from pathlib import Path

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
