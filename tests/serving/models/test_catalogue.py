"""Models of a store by names for people, and as one file for others."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.engine import checkpoint
from fssplat.experiment.trial import Job
from fssplat.results.store import Store
from fssplat.serving.models import bundle
from fssplat.serving.models.catalogue import find_model, models_in
from fssplat.serving.models.opening import load_model

CPU = torch.device("cpu")


def test_a_model_is_found_by_any_of_its_parts_and_by_ids(job: Job, store: Store) -> None:
    model, other = models_in(store)
    assert (model.name, other.name) == ("hsnet-fold0", "prior-fold0")
    assert model.id == job.key
    assert set(model.trial_ids) == set(job.trial_ids)
    assert model.miou is not None
    assert set(model.miou) == {1, 5}
    for text in (
        "hsnet", "HSNet-fold0", "hsnet-synthetic-fold0", "hsnet-efficientnet_lite0-synthetic-fold0",
        job.key, job.key[:8], job.trial_ids[1],
    ):  # fmt: skip
        assert find_model(store, text).id == job.key
    with pytest.raises(InputError, match=r"2 models .* have this name: hsnet-fold0, prior-fold0"):
        find_model(store, "synthetic-fold0")
    with pytest.raises(InputError, match=r"model hsnet-fold1: .* Did you mean hsnet-fold0\?"):
        find_model(store, "hsnet-fold1")


def test_a_bundle_has_the_same_weights_and_no_other_file(store: Store, tmp_path: Path) -> None:
    predictor = load_model("hsnet", store.address, device=CPU).predictor
    command = ["export", "hsnet-fold0", "--out", str(tmp_path), "--store", store.address]
    assert CliRunner().invoke(app, command).exit_code == 0
    path = tmp_path / "hsnet-fold0.fssplat"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        assert names == {"bundle.json", "README.md", "model.json", "weights.safetensors"}
        facts = json.loads(archive.read("bundle.json"))
        assert "1-shot" in archive.read("README.md").decode()
    assert facts["protocol"] == {"name": "fssplat", "hash": predictor.trial.protocol.hash}
    assert len(facts["data"]["fingerprint"]) == 16
    target = Store.open(str(tmp_path / "other"))
    assert bundle.import_bundle(path, target, "theirs") == "theirs"
    for name in (str(path), "theirs"):
        loaded = load_model(name, target.address, device=CPU).predictor.network
        assert checkpoint.crc32(loaded.state_dict()) == checkpoint.crc32(
            predictor.network.state_dict()
        )
    with pytest.raises(InputError, match="has a model theirs already"):
        bundle.import_bundle(path, target, "theirs")
    with pytest.raises(InputError, match="cannot be used as a file name"):
        bundle.import_bundle(path, target, "../theirs")


def changed(source: Path, target: Path, **files: bytes | None) -> Path:
    """The bundle with some files replaced, added, or left out; __ is / and a leading _ is ../ ."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            key = name.replace(".", "_")
            if files.get(key, b"") is not None:
                new.writestr(name, files.get(key) or old.read(name))
        for key, data in files.items():
            if key not in {name.replace(".", "_") for name in old.namelist()}:
                new.writestr(key.replace("up__", "../"), data or b"")
    return target


def test_a_bundle_that_was_changed_is_refused(store: Store, tmp_path: Path) -> None:
    model, _ = models_in(store)
    assert store.folder is not None
    path = bundle.export_bundle(model, store.folder / model.folder, tmp_path / "a.fssplat")
    record = json.loads((store.folder / model.folder / "model.json").read_text())
    record["trial"]["method"]["name"] = "os:system"
    foreign = json.dumps(record).encode()
    bad = {
        "which a bundle does not have": changed(path, tmp_path / "b", up__evil=b"x"),
        "its method os:system is code": changed(path, tmp_path / "c", model_json=foreign),
        "not what bundle.json says": changed(path, tmp_path / "d", weights_safetensors=b"x"),
        "is missing or damaged": changed(path, tmp_path / "e", bundle_json=None),
        "its files are not those": changed(path, tmp_path / "f", weights_safetensors=None),
    }
    (tmp_path / "g").write_bytes(path.read_bytes()[:5000])
    bad["no bundle, or cut short"] = tmp_path / "g"
    target = Store.open(str(tmp_path / "other"))
    for message, file in bad.items():
        with pytest.raises(InputError, match=message):
            bundle.import_bundle(file, target, "mine")
    with zipfile.ZipFile(tmp_path / "z", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bundle.json", b" " * 10_000)
    with pytest.raises(InputError, match="compressed or too large"):
        bundle.import_bundle(tmp_path / "z", target, "mine")
    assert not (tmp_path / "other" / "models" / "mine" / "model.json").exists()


def test_a_name_that_is_nowhere_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no store at .*method without training .prior"):
        load_model("hsnet-fold0", tmp_path / "none")
    with pytest.raises(InputError, match="a trained model has its own backbone"):
        load_model("hsnet", tmp_path, backbone="resnet50")
    with pytest.raises(InputError, match=r"no such file\. Give a bundle"):
        load_model("a.fssplat", tmp_path)
