"""A trained network on loose images predicts what its evaluation predicted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.index import Dataset
from fssplat.engine.predicting.model_files import EVALUATION, MODEL
from fssplat.engine.predicting.predictor import Predictor, score_at_image_size
from fssplat.engine.run import JobData, run_job
from fssplat.engine.settings import RunSettings
from fssplat.experiment.protocols import PROTOCOLS
from fssplat.experiment.trial import Job
from fssplat.methods import METHODS
from tests.fakes.synthetic_jobs import synthetic_job

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """PFENet's job for both shots, finished."""
    job, folder = synthetic_job(synthetic, "pfenet", (1, 5)), tmp_path_factory.mktemp("job")
    finish(job, folder)
    return job, folder


def finish(job: Job, folder: Path) -> None:
    settings = RunSettings(device=CPU, artefacts=folder / "artefacts")
    run_job(job, JobData.open(job), folder, settings=settings)


def episodes(job: Job, folder: Path, trial: int) -> list[dict[str, Any]]:
    """The rows that the evaluation wrote of a trial's episodes at their own size."""
    path = folder / "trials" / job.trial_ids[trial] / "episodes.parquet"
    return [row for row in pq.read_table(path).to_pylist() if row["score"] == "original"]


def predicted(predictor: Predictor, dataset: Dataset, row: dict[str, Any]) -> Any:
    supports = [dataset.row_of(key) for key in row["supports"]]
    masks = [dataset.mask(support, row["class_id"]) for support in supports]
    query = dataset.image(dataset.row_of(row["query"]))
    return predictor(query, [dataset.image(support) for support in supports], masks)


def assert_same(job: Job, folder: Path, trial: int = 0) -> None:
    """Every episode's intersection and union, counted again from the predictor's masks."""
    dataset = JobData.open(job).dataset(job.first)
    predictor = Predictor.load(folder, CPU)
    for row in episodes(job, folder, trial):
        mask = predicted(predictor, dataset, row)
        truth = dataset.mask(dataset.row_of(row["query"]), row["class_id"])
        known = truth != 255
        ours, theirs = (mask == 1) & known, truth == 1
        assert mask.shape == truth.shape
        assert int((ours & theirs).sum()) == row["intersection"]
        assert int((ours | theirs).sum()) == row["union"]


@pytest.mark.parametrize("trial", [0, 1])
def test_a_loaded_model_predicts_what_its_evaluation_did(
    trained: tuple[Job, Path], trial: int
) -> None:
    job, folder = trained
    assert job.trials[trial].shot == (1, 5)[trial]
    assert not (folder / EVALUATION).exists()
    assert_same(job, folder, trial)


OTHERS = [
    pytest.param(name, marks=() if name == "mining" else pytest.mark.slow)
    for name in sorted(METHODS)
    if name != "pfenet"
]


@pytest.mark.parametrize("name", OTHERS)
def test_every_method_can_be_loaded_without_base_images(
    name: str, synthetic: Path, tmp_path: Path
) -> None:
    """MiningFSS reads regions of base images when it scores: they are part of its model."""
    job = synthetic_job(synthetic, name, training={"steps": 2})
    finish(job, tmp_path)
    assert (tmp_path / EVALUATION).exists() == (name == "mining")
    assert_same(job, tmp_path)


def test_a_model_names_no_folder_of_the_machine_it_was_trained_on(
    trained: tuple[Job, Path], synthetic: Path
) -> None:
    _, folder = trained
    text = (folder / MODEL).read_text()
    assert str(synthetic) not in text
    assert str(folder) not in text


def copied(folder: Path, target: Path, **changes: Any) -> Path:
    """The model's files with some values of model.json changed."""
    target.mkdir()
    note = json.loads((folder / MODEL).read_text())
    for key, value in changes.items():
        part = note
        *above, last = key.split("__")
        for name in above:
            part = part[name]
        part[last] = value
    (target / MODEL).write_text(json.dumps(note))
    (target / "weights.safetensors").symlink_to(folder / "weights.safetensors")
    return target


def test_another_backbone_or_another_version_is_refused(
    trained: tuple[Job, Path], tmp_path: Path
) -> None:
    _, folder = trained
    with pytest.raises(InputError, match="has other weights here than in the training"):
        Predictor.load(copied(folder, tmp_path / "a", frozen_crc32=1), CPU)
    with pytest.raises(InputError, match="made by version 99 of pfenet"):
        Predictor.load(copied(folder, tmp_path / "b", trial__method_version=99), CPU)
    other = {"name": "hsnet", "options": {}, "loss_weights": {}, "momentum": {}}
    changes = {"trial__method": other, "trial__method_version": METHODS["hsnet"].RESULT_VERSION}
    with pytest.raises(InputError, match="checkpoint is for method pfenet, expected hsnet"):
        Predictor.load(copied(folder, tmp_path / "c", **changes), CPU)
    with pytest.raises(InputError, match=r"model\.json: no such file"):
        Predictor.load(tmp_path, CPU)


def test_images_that_do_not_fit_each_other_are_named(trained: tuple[Job, Path]) -> None:
    predictor = Predictor.load(trained[1], CPU)
    image = np.zeros((40, 50, 3), dtype=np.uint8)
    mask = np.zeros((40, 50), dtype=np.uint8)
    with pytest.raises(InputError, match=r"query: float64 \[40, 50, 3\]; expected uint8"):
        predictor(image.astype(float), [image], [mask])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1 support and 2 masks"):
        predictor(image, [image], [mask, mask])
    with pytest.raises(InputError, match=r"mask 0: \[50, 40\]; expected \[40, 50\]"):
        predictor(image, [image], [np.eye(50, 40)])
    for values, shown in ((mask, "the value 0 .no object"), (mask + 7, "the value 7 .no backgr")):
        with pytest.raises(InputError, match=f"mask 0: the mask has {shown}"):
            predictor(image, [image], [values])
    mask[:20] = 1
    assert predictor(image, [image], [mask]).shape == (40, 50)


@pytest.mark.parametrize("value", [17, 255])
def test_a_mask_of_0_and_255_predicts_what_a_mask_of_0_and_1_does(
    trained: tuple[Job, Path], tmp_path: Path, value: int
) -> None:
    """A mask of 0 and 255 had no object: all of it was background or ignored."""
    job, folder = trained
    predictor, dataset = Predictor.load(folder, CPU), JobData.open(job).dataset(job.first)
    row = episodes(job, folder, 0)[0]
    query, support = (dataset.row_of(key) for key in (row["query"], row["supports"][0]))
    mask = (dataset.mask(support, row["class_id"]) == 1).astype(np.uint8)
    path = tmp_path / "mask.png"
    Image.fromarray(mask * value).save(path)
    images = dataset.image(query), [dataset.image(support)]
    expected = predictor(*images, [mask])
    assert expected.any()
    for given in (mask * value, mask.astype(bool), np.stack([mask * value] * 3, axis=-1), path):
        assert (predictor(*images, [given]) == expected).all()


def test_a_mask_has_the_querys_own_size_whatever_the_protocol_scores(
    trained: tuple[Job, Path],
) -> None:
    trial = trained[0].first
    assert score_at_image_size(trial) == "original"
    sized = PROTOCOLS["fssplat"].model_copy(update={"score": (473,)})
    assert score_at_image_size(trial.model_copy(update={"protocol": sized})) == "original"
    square = sized.model_copy(update={"score": (473, "original-square")})
    assert score_at_image_size(trial.model_copy(update={"protocol": square})) == "original-square"
