"""The store of trials and jobs: which are finished, and how files come back."""

import json
import tempfile
from pathlib import Path

import pytest

from fssplat.common.errors import InputError, StoreAwayError
from fssplat.results.job_folder import JobFolder
from fssplat.results.maintenance import damaged_files, request_rerun, reset_failed
from fssplat.results.records import JobRecord
from fssplat.results.store import Store
from fssplat.tracking.logged_models import local_files
from fssplat.worker.process import is_transient
from tests.fakes.trials import job, trial


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    address = tmp_path / "store" if request.param == "folder" else f"memory://{tmp_path.name}"
    return Store.open(str(address))


def finish(store: Store, folder: Path, trial_id: str = "t1") -> None:
    (folder / "panels").mkdir(parents=True)
    (folder / "episodes.parquet").write_bytes(b"0123456789")
    (folder / "panels" / "0.png").write_bytes(b"png")
    (folder / ".hidden.tmp").write_bytes(b"half")
    store.finish(trial(), trial_id, folder, {"miou": 0.5}, ("left out: cat",), {"launch": "l"})


def test_a_trial_is_finished_when_all_its_files_are_in_the_store(
    store: Store, tmp_path: Path
) -> None:
    store.mark(["t1"], "running")
    assert store.states(["t1", "t2"])["t1"].state == "running"
    assert store.states(["t1", "t2"])["t2"].state == "pending"
    finish(store, tmp_path / "work")
    assert store.states(["t1"])["t1"].state == "finished"
    result = store.results(["t1"])["t1"]
    assert result.metrics == {"miou": 0.5}
    assert result.notes == ("left out: cat",)
    assert set(result.files) == {"episodes.parquet", "metrics.json", "panels/0.png", "spec.json"}


@pytest.mark.parametrize("name", ["episodes.parquet", "panels/0.png", "result.json"])
def test_a_trial_with_an_incomplete_file_is_not_finished(
    store: Store, tmp_path: Path, name: str
) -> None:
    finish(store, tmp_path / "work")
    whole = store.files.read(f"t1/{name}")
    assert whole is not None
    store.files.write(f"t1/{name}", whole[: len(whole) // 2])
    assert store.states(["t1"])["t1"].state == "pending"
    assert store.results(["t1"]) == {}


def test_a_trial_with_a_missing_file_is_not_finished(store: Store, tmp_path: Path) -> None:
    finish(store, tmp_path / "work")
    store.files.delete("t1/metrics.json")
    assert store.states(["t1"])["t1"].state == "pending"


def test_a_result_whose_files_lead_out_of_the_store_is_not_finished(
    store: Store, tmp_path: Path
) -> None:
    finish(store, tmp_path / "work")
    note = json.loads(store.files.read("t1/result.json") or b"")
    (tmp_path / "outside").write_bytes(b"12345")
    for name in ("../../outside", str(tmp_path / "outside")):
        store.files.write("t1/result.json", json.dumps({**note, "files": {name: 5}}).encode())
        assert store.results(["t1"]) == {}


def test_a_job_or_a_file_of_a_job_that_leads_out_of_its_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = Store.open(f"memory://{tmp_path.name}")
    with pytest.raises(InputError, match=r"job: '\.\./\.\./x' cannot be used as a path"):
        store.job_folder("../../x")
    monkeypatch.setattr(store.files, "sizes", lambda _: {"../../../escaped": 1})
    with pytest.raises(InputError, match=r"jobs/k: .*escaped' cannot be used as a path"):
        JobFolder(store, "k").download()
    assert local_files(store, "jobs/", ["steps.parquet"], tmp_path / "scratch") is None
    with pytest.raises(InputError, match="cannot be used as a path"):
        local_files(store, "jobs/../..", ["steps.parquet"], tmp_path / "scratch")


def test_a_status_that_cannot_be_read_counts_as_never_run(store: Store) -> None:
    store.mark(["t1"], "failed", "why")
    assert store.states(["t1"])["t1"].reason == "why"
    store.files.write("t1/status.json", b'{"state": "fai')
    assert store.states(["t1"])["t1"].state == "pending"


def test_records_of_jobs_are_read_and_damaged_ones_are_left_out(store: Store) -> None:
    record = JobRecord("panet", "resnet50", "synthetic", 97, 2, "cpu", 1e9, 3.0, 10)
    store.record_job("k1", record)
    store.files.write("jobs/k2/record.json", b"{}")
    assert store.job_records() == {"k1": record}


def test_a_job_resumes_on_another_machine_from_a_store_behind_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = Store.open(f"memory://{tmp_path.name}")
    here = JobFolder(store, "k")
    here.download()
    (here.folder / "step-1").write_bytes(b"first")
    here.upload()
    (here.folder / "step-1").unlink()
    (here.folder / "step-2").write_bytes(b"second")
    here.upload()
    assert store.files.sizes("jobs/k") == {"step-2": 6}
    (here.folder / "step-2").unlink()
    there = JobFolder(store, "k")
    there.download()
    assert (there.folder / "step-2").read_bytes() == b"second"


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Store.open(str(tmp_path / "file" / "store"))


def test_local_files_that_were_never_uploaded_are_deleted_before_a_job_resumes(
    tmp_path: Path,
) -> None:
    store = Store.open(f"memory://{tmp_path.name}")
    here = JobFolder(store, "k")
    here.download()
    (here.folder / "step100").write_bytes(b"100")
    here.upload()
    (here.folder / "step200").write_bytes(b"200")  # its process dies before the next upload
    again = JobFolder(store, "k")
    again.download()
    assert sorted(path.name for path in again.folder.iterdir()) == ["step100"]
    (again.folder / "step200").write_bytes(b"200")
    again.upload()
    assert sorted(store.files.sizes("jobs/k")) == ["step100", "step200"]
    again.remove()
    assert not again.folder.exists()


def test_a_store_that_does_not_answer_gives_one_line_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndpointConnectionError(Exception):  # botocore's are no OSError either
        pass

    def refuse(*_: object, **__: object) -> None:
        raise EndpointConnectionError("Could not connect to the endpoint URL\nmore")

    store = Store.open(f"memory://{tmp_path.name}")
    monkeypatch.setattr(store.files.fs._fs, "cat_file", refuse)
    with pytest.raises(StoreAwayError, match=r"not reached \(EndpointConnectionError: Could not"):
        store.files.read("store.json")
    monkeypatch.undo()
    monkeypatch.setattr(store.files.fs._fs, "cat", lambda paths, **_: {paths[0]: OSError("503")})
    with pytest.raises(StoreAwayError, match="503"):
        store.files.read_many(["one/result.json"])
    assert is_transient(StoreAwayError("away"))


@pytest.mark.parametrize("name", ["episodes.parquet", "panels/0.png", "metrics.json", "spec.json"])
def test_a_change_of_the_same_size_is_noticed_by_the_checksums(
    store: Store, tmp_path: Path, name: str
) -> None:
    finish(store, tmp_path / "work")
    assert damaged_files(["t1"], store) == ({}, 0)
    whole = store.files.read(f"t1/{name}")
    assert whole is not None
    store.files.write(f"t1/{name}", bytes([whole[0] ^ 1]) + whole[1:])
    assert damaged_files(["t1"], store) == ({f"t1/{name}": "was changed after it was written"}, 0)


def test_a_changed_number_in_the_marker_is_noticed_and_old_results_have_no_checksums(
    store: Store, tmp_path: Path
) -> None:
    finish(store, tmp_path / "work")
    whole = store.files.read("t1/result.json")
    assert whole is not None
    store.files.write("t1/result.json", whole.replace(b"0.5", b"0.6"))
    wrong = {"t1/result.json": "was changed after it was written"}
    assert damaged_files(["t1"], store) == (wrong, 0)
    note = json.loads(whole)
    del note["sha256"], note["checksum"]
    store.files.write("t1/result.json", json.dumps(note).encode())
    assert damaged_files(["t1"], store) == ({}, 1)


def test_a_result_is_kept_until_its_rerun_is_whole(store: Store, tmp_path: Path) -> None:
    finish(store, tmp_path / "work")
    one = job(trial()).model_copy(update={"trial_ids": ("t1",), "key": "k"})
    store.files.write("jobs/k/weights.safetensors", b"of unknown source")
    store.files.write("jobs/k/trials/t1/metrics.json", b"{}")
    request_rerun([one], ["t1"], store)
    assert store.files.sizes("jobs/k") == {}
    for state in ("pending", "running", "failed"):
        store.mark(["t1"], state, "why", rerun=["t1"])
        found = store.states(["t1"])["t1"]
        assert (found.state, found.rerun) == (state, True)
        assert store.results(["t1"])["t1"].metrics == {"miou": 0.5}
    assert reset_failed([one], store.states(["t1"]), store) == 1
    assert store.results(["t1"])["t1"].metrics == {"miou": 0.5}
    (tmp_path / "again").mkdir()
    store.finish(trial(), "t1", tmp_path / "again", {"miou": 0.75})
    assert store.states(["t1"])["t1"].state == "finished"
    assert store.results(["t1"])["t1"].metrics == {"miou": 0.75}
    assert sorted(store.files.sizes("t1")) == ["metrics.json", "result.json", "spec.json"]
