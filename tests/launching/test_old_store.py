"""A store, its MLflow runs and a study that an earlier version left are read and continued.

`old_store.tar.xz` was written by the commit bd74dbc: one finished job of two trials, one training
that was stopped after 7 of 14 steps, their MLflow runs, and a study of four points.
"""

import sqlite3
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console
from safetensors.torch import load_file

from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.sources.record import SourceOptions
from fssplat.engine.settings import RunSettings
from fssplat.engine.training.loop import train
from fssplat.experiment.reading import load_experiment
from fssplat.launching import checks
from fssplat.launching.launch import Request, launch
from fssplat.results.store import Store
from fssplat.tracking.launch_listener import MlflowListener
from tests.fakes.engines import train_small_network
from tests.fakes.experiment_files import experiment_without_images
from tests.fakes.prototype_method import SquaresData, prototype_network, prototype_trial
from tests.fakes.searches import search_without_ray

ARCHIVE = Path(__file__).with_name("old_store.tar.xz")
FINISHED = ("4e633fc900894e94", "ac137acb89d3019e")
CUT = ("8f148e33f6b25a0d", "64f090b9396905aa")
CUT_JOB = "57616d16a82cc5df"
POINTS = 4


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The archive, with its paths pointing to where it is unpacked."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    for name in ("small.yaml", "search/small.yaml"):
        path = tmp_path / name
        path.write_text(path.read_text().replace("FOLDER", str(tmp_path)))
    with sqlite3.connect(tmp_path / "store" / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            new = f"replace({column}, 'FOLDER', '{tmp_path}')"
            database.execute(f"update {table} set {column} = {new}")
    described = tmp_path / "data" / "described"
    described.parent.mkdir()
    experiment_without_images(tmp_path / "data")  # makes a description without pictures, and a file
    (tmp_path / "data" / "data").rename(described)
    return tmp_path


def test_an_old_store_is_continued_and_repeats_nothing(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "check_data", lambda plan: None)
    store = Store(load_experiment(old / "small.yaml").store)
    before = store.states([*FINISHED, *CUT])
    assert [before[i].state for i in FINISHED] == ["finished"] * 2
    assert [before[i].reason for i in CUT] == ["stopped at step 7"] * 2
    kept = {i: (old / "store" / i / "result.json").read_bytes() for i in FINISHED}

    request, screen = Request(old / "small.yaml"), Console(quiet=True)
    assert launch(request, screen, train_small_network, [MlflowListener()]) == 0

    after = store.states([*FINISHED, *CUT])
    assert {status.state for status in after.values()} == {"finished"}
    assert {i: (old / "store" / i / "result.json").read_bytes() for i in FINISHED} == kept
    undisturbed = tmp_path / "undisturbed"
    settings = RunSettings(device=torch.device("cpu"), checkpoint_steps=4, fetch_steps=3)
    train(
        prototype_network(), prototype_trial(), SquaresData(), undisturbed,
        lambda event: None, lambda: False, settings, "undisturbed",
    )  # fmt: skip
    wanted = load_file(undisturbed / "weights.safetensors")
    found = load_file(old / "store" / "jobs" / CUT_JOB / "weights.safetensors")
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)

    client = MlflowClient(f"sqlite:///{old / 'store' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    runs = client.search_runs([experiment.experiment_id], "tags.`fssplat.kind` = 'trial'")
    finished = [run for run in runs if run.info.status == "FINISHED"]
    names = Counter(run.data.tags["fssplat.trial_id"] for run in finished)
    assert names == Counter([*FINISHED, *CUT])


def test_an_old_study_goes_on_with_its_points(old: Path) -> None:
    options = SourceOptions(train_images=24, val_images=40, workers=1)
    settings = BuildSettings(options=options, workers=1)
    build("synthetic", old / "raw", old / "data" / "synthetic", settings)
    changes = (f"search.trials={POINTS + 2}",)
    driver = search_without_ray(old / "search" / "small.yaml", changes=changes)
    trials = driver.study.get_trials()
    assert len(trials) == POINTS + 2
    first = sqlite3.connect(old / "search" / "store" / "studies.db").execute(
        "select count(*) from studies"
    )
    assert first.fetchone() == (1,)
