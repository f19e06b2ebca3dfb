"""A finished training becomes an MLflow model that loads elsewhere and predicts the same."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fssplat.common.errors import InputError
from fssplat.engine.job_data import JobData
from fssplat.experiment.schema import MlflowSpec
from fssplat.experiment.trial import Job
from fssplat.results.store import Store
from fssplat.tracking.delivery import sync
from fssplat.tracking.models import Segmenter, download_model, model_key
from fssplat.tracking.runs import Tracking, open_tracking
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from tests.fakes.engines import RecordedNotes
from tests.fakes.synthetic_jobs import synthetic_job

LOADED = """
import sys
import numpy as np
import mlflow
uri, folder = sys.argv[1:]
given = np.load(f"{folder}/episode.npz")
count = len([name for name in given if name.startswith("mask")])
episode = {
    "query": given["query"],
    "supports": [given[f"support{i}"] for i in range(count)],
    "masks": [given[f"mask{i}"] for i in range(count)],
}
np.save(f"{folder}/predicted.npy", mlflow.pyfunc.load_model(uri).predict(episode))
"""


@pytest.fixture(scope="module")
def finished(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Store]:
    """PFENet trained for four steps and scored at both shots, in a store."""
    store = Store.open(str(tmp_path_factory.mktemp("models") / "store"))
    job = synthetic_job(synthetic, "pfenet", (1, 5))
    assert perform(JobTask(job, store.address, "l1"), RecordedNotes()).state == "finished"
    return job, store


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def delivered(job: Job, store: Store, database: str, name: str, models: bool = True) -> Tracking:
    tracking = open_tracking(database, name, MlflowSpec(models=models))
    sync(tracking, store, dict(zip(job.trial_ids, job.trials, strict=True)), lambda _: {})
    return tracking


def models(tracking: Tracking) -> list[Any]:
    return list(tracking.client.search_logged_models([tracking.experiment_id]))


def shown(tracking: Tracking, job: Job) -> list[list[str]]:
    """The models that each trial's run shows."""
    runs = [tracking.client.get_run(tracking.runs[trial_id].run_id) for trial_id in job.trial_ids]
    return [[output.model_id for output in run.outputs.model_outputs] for run in runs]


def episode_of(job: Job, store: Store, trial: int) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Images of a trial's first episode, the query's truth, and what its evaluation counted."""
    rows = pq.read_table(Path(store.address) / job.trial_ids[trial] / "episodes.parquet")
    row = next(row for row in rows.to_pylist() if row["score"] == "original")
    dataset, class_id = JobData.open(job).dataset(job.first), row["class_id"]
    supports = [dataset.row_of(key) for key in row["supports"]]
    query = dataset.row_of(row["query"])
    episode = {
        "query": dataset.image(query),
        "supports": [dataset.image(support) for support in supports],
        "masks": [dataset.mask(support, class_id) for support in supports],
    }
    return episode, dataset.mask(query, class_id), row


@pytest.mark.slow
def test_a_model_loads_in_another_process_and_predicts_as_the_evaluation_did(
    finished: tuple[Job, Store], database: str, tmp_path: Path
) -> None:
    job, store = finished
    (model,) = models(delivered(job, store, database, "loads"))
    episode, truth, row = episode_of(job, store, 1)
    assert len(episode["supports"]) == 5
    arrays = {f"{kind[:-1]}{i}": v for kind in ("supports", "masks")
              for i, v in enumerate(episode[kind])}  # fmt: skip
    np.savez(tmp_path / "episode.npz", query=episode["query"], **arrays)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": database, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOADED, f"models:/{model.model_id}", str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, timeout=240)
    predicted = np.load(tmp_path / "predicted.npy")
    known = truth != 255
    assert int(((predicted == 1) & known & (truth == 1)).sum()) == row["intersection"]
    assert int((((predicted == 1) & known) | (truth == 1)).sum()) == row["union"]


def test_a_training_is_one_model_shown_in_the_runs_of_all_its_trials(
    finished: tuple[Job, Store], database: str
) -> None:
    job, store = finished
    tracking = delivered(job, store, database, "one")
    (model,) = models(tracking)
    assert shown(tracking, job) == [[model.model_id], [model.model_id]]
    assert model.name == "pfenet-efficientnet_lite0-synthetic-fold-0"
    assert model.tags["fssplat.job"] == job.key
    assert (model.tags["method"], model.tags["fold"]) == ("pfenet", "0")
    assert str(model.status) == "READY"


def test_a_model_contains_safetensors_and_json_and_no_pickle(
    finished: tuple[Job, Store], database: str
) -> None:
    (model,) = models(delivered(*finished, database, "files"))
    folder = Path(model.artifact_location.removeprefix("file://"))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt",
        "data/training/model.json", "data/training/weights.safetensors",
    }  # fmt: skip
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_a_delivery_interrupted_within_a_model_leaves_one_complete_model(
    finished: tuple[Job, Store], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, store = finished
    tracking = open_tracking(database, "cut")
    trials = dict(zip(job.trial_ids, job.trials, strict=True))

    def dies(*_: Any) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(tracking.client, "finalize_logged_model", dies)
        assert sync(tracking, store, trials, lambda _: {}) == 2  # the numbers; no model
    assert all(tracking.runs[i].delivered and tracking.runs[i].lacks_files for i in trials)
    assert [str(model.status) for model in models(tracking)] != ["READY"]
    assert sync(open_tracking(database, "cut"), store, trials, lambda _: {}) == 2
    again = delivered(job, store, database, "cut")
    (model,) = models(again)
    assert str(model.status) == "READY"
    again.find_runs()
    assert shown(again, job) == [[model.model_id], [model.model_id]]


def test_trials_that_score_the_weights_differently_have_different_models(
    finished: tuple[Job, Store],
) -> None:
    first, second = finished[0].trials
    assert model_key(first, "job") == model_key(second, "job")  # one shot and five
    assert model_key(first, "job") != model_key(first, "other job")
    method = first.method.model_copy(update={"options": {**first.method.options, "scales": [1]}})
    assert model_key(first.model_copy(update={"method": method}), "job") != model_key(first, "job")


def test_models_can_be_left_out(finished: tuple[Job, Store], database: str) -> None:
    assert models(delivered(*finished, database, "none", models=False)) == []


def test_a_model_accepts_one_episode_a_list_and_a_batch_of_arrays() -> None:
    asked: list[tuple[Any, ...]] = []

    def predictor(query: Any, supports: Any, masks: Any) -> Any:
        asked.append((query.dtype, len(supports), len(masks)))
        return query[..., 0]

    model = Segmenter(predictor)  # type: ignore[arg-type]
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    one = {"query": image, "supports": [image, image], "masks": [image[..., 0]] * 2}
    assert model.predict(one).shape == (4, 5)
    assert len(model.predict([one, one])) == 2
    batch = {name: np.array([value] * 3, dtype=np.int64) for name, value in one.items()}
    assert len(model.predict(batch)) == 3
    assert set(asked) == {(np.dtype(np.uint8), 2, 2)}
    with pytest.raises(InputError, match="model input image: expected query: uint8 RGB"):
        model.predict({"image": image})
    with pytest.raises(InputError, match="give a mapping of query, supports, masks"):
        model.predict(image)
    for wrong in ({**one, "masks": "/etc/passwd"}, {**one, "supports": 5}, {**one, "masks": None}):
        with pytest.raises(InputError, match=r"model input (masks|supports): expected K "):
            model.predict(wrong)
    with pytest.raises(InputError, match="different lengths"):
        model.predict({**one, "query": [[1, 2], [3]]})


def test_a_model_is_downloaded_by_its_address(
    finished: tuple[Job, Store], database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, store = finished
    tracking = delivered(job, store, database, "by address")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    folder = download_model(f"models:/{models(tracking)[0].model_id}", store, tmp_path)
    weights = Path(store.address) / "jobs" / job.key / "weights.safetensors"
    assert (folder / "weights.safetensors").read_bytes() == weights.read_bytes()
    with pytest.raises(InputError, match="model models:/m-0: MLflow refuses"):
        download_model("models:/m-0", store, tmp_path / "none")
