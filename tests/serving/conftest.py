"""A store with a trained model, and pictures in which an object is marked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fssplat.data.index import Dataset
from fssplat.engine.predicting.predictor import Predictor
from fssplat.experiment.trial import Job
from fssplat.results.store import Store
from fssplat.serving.models.opening import load_model
from tests.fakes.synthetic_jobs import synthetic_job

CLASS = 2  # of the synthetic set, whose objects are marked


RULES: dict[str, Any] = {"episodes": 2, "episode_seeds": [0], "score": ["original"]}


@pytest.fixture(scope="session")
def job(synthetic: Path) -> Job:
    """HSNet, trained for two steps and scored at both shots."""
    return synthetic_job(synthetic, "hsnet", (1, 5), training={"steps": 2}, **RULES)


@pytest.fixture(scope="session")
def untrained(synthetic: Path) -> Job:
    """The prior with random features: unlike a network after two steps, it finds something."""
    return synthetic_job(synthetic, "prior", (1,), **RULES)


@pytest.fixture(scope="session")
def store(job: Job, untrained: Job, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of the finished jobs; do not change it."""
    from fssplat.worker.claimed_job import perform
    from fssplat.worker.job_task import JobTask
    from tests.fakes.engines import RecordedNotes

    opened = Store.open(str(tmp_path_factory.mktemp("serving") / "store"))
    for one in (job, untrained):
        assert perform(JobTask(one, opened.address, "l1"), RecordedNotes()).state == "finished"
    return opened


@pytest.fixture(scope="session")
def predictor(store: Store) -> Predictor:
    return load_model("prior-fold0", store.address, device=torch.device("cpu")).predictor


@pytest.fixture(scope="session")
def marked(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """refs/ with three pairs, photos/ with four other pictures of the class; do not change them."""
    root = tmp_path_factory.mktemp("marked")
    dataset = Dataset.open(synthetic)
    rows = dataset.rows_of(CLASS, "val", 100)[:7]
    for place, row in enumerate(rows):
        folder = root / ("refs" if place < 3 else "photos")
        folder.mkdir(exist_ok=True)
        key = f"{place}-{dataset.keys[row]}"
        (folder / f"{key}.jpg").write_bytes(dataset.jpeg(row))
        if place < 3:
            mask = (dataset.mask(row, CLASS) == 1).astype(np.uint8) * 255
            Image.fromarray(mask).save(folder / f"{key}.png")
    (root / "about.json").write_text(json.dumps([dataset.keys[row] for row in rows]))
    return root
