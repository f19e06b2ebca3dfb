"""The store on a real S3 server on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.results.claims import claim, held
from fssplat.results.store import Store
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from tests.fakes.engines import RecordedNotes, fail_if_started, train_and_score
from tests.fakes.trials import job, trial

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        s3fs.S3FileSystem().mkdir("results")
        yield "s3://results"
    server.stop()


def test_a_job_runs_into_a_bucket_and_is_not_run_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store.open(f"{bucket}/one")
    task = JobTask(job(trial(shot=1), trial(shot=5)), store.address, "l1")
    assert perform(task, RecordedNotes(), train_and_score).state == "finished"
    results = store.results(task.job.trial_ids)
    assert len(results) == 2
    assert "panels/one.png" in results[task.job.trial_ids[0]].files
    assert "steps.parquet" in store.files.sizes(f"jobs/{task.job.key}")
    assert perform(task, RecordedNotes(), fail_if_started).state == "finished"
    store.files.write(f"{task.job.trial_ids[0]}/episodes.parquet", b"cut")
    states = store.states(task.job.trial_ids)
    assert [states[i].state for i in task.job.trial_ids] == ["pending", "finished"]


def test_what_a_job_printed_is_in_the_bucket_after_each_attempt(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        print("words of the job")
        raise ValueError("shapes")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store.open(f"{bucket}/logs")
    task = JobTask(job(trial()), store.address, "l1")
    for attempt in (1, 2):
        assert perform(task, RecordedNotes(), fail).state == "failed"
        assert not store.scratch.exists()
        shown = CliRunner().invoke(app, ["logs", "--store", store.address]).output
        assert f"--- attempt {attempt}: " in shown
        assert shown.count("words of the job") == attempt
        assert shown.count("Traceback") == attempt


def test_one_object_has_one_holder(bucket: str) -> None:
    files = Store.open(f"{bucket}/two").files
    first = claim(files, "jobs/k/claim", "one")
    assert first is not None
    assert claim(files, "jobs/k/claim", "two", wait_s=12.0) is None  # it beats every 10 s
    first.release()
    assert not held(files, "jobs/k/claim")


def test_many_trials_are_looked_up_in_one_listing(bucket: str, tmp_path: Path) -> None:
    store = Store.open(f"{bucket}/three")
    ids = [f"t{number}" for number in range(25)]
    for trial_id in ids:
        work = tmp_path / trial_id
        work.mkdir()
        (work / "episodes.parquet").write_bytes(b"0123")
        store.finish(trial(), trial_id, work, {"miou": 0.5})
    store.files.write("t3/episodes.parquet", b"0")
    found = store.states([*ids, "never"])
    assert [name for name in found if found[name].state == "pending"] == ["t3", "never"]
