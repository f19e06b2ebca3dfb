"""Commands on a store with damaged files: a reason in place of a traceback, and no number lost."""

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError, StoreAwayError
from fssplat.launching import checks
from fssplat.launching.cluster import Cluster
from fssplat.launching.launch import Request, launch, plan_from
from fssplat.planning.plan import Plan
from fssplat.results import claims
from fssplat.results.records import JobRecord
from fssplat.results.store import Store
from fssplat.worker.retry_limit import record_attempt
from tests.fakes.damages import KINDS, damage_with, wrong_files
from tests.fakes.engines import train_and_score
from tests.fakes.experiment_files import experiment_without_images

RUN = CliRunner()
RECORD = JobRecord("panet", "resnet50", "synthetic", 473, 4, "cpu", 1e9, 3.0, 10)
ABOUT = {"launch": "l", "job": "k", "commit": "c", "host": "h", "finished_at": 1.7e9}
READERS: tuple[tuple[str, ...], ...] = (
    ("status", "--all"), ("plan", "--json"), ("gc", "--dry-run"), ("gc",), ("stop",),
    ("launch", "--dry-run"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set of these tests is a description only."""
    monkeypatch.setattr(checks, "check_data", lambda plan: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def finished_store(
    folder: Path, jobs: int, trials: int = 1, **settings: str
) -> tuple[Path, Plan, Store]:
    """An experiment of some jobs, each of which has some finished trials."""
    shots = list(range(1, trials + 1))
    grid = f"{{method: [panet], seed: {list(range(jobs))}, shot: {shots}}}"
    path = experiment_without_images(folder, grid=grid, **{"tracking": "none", **settings})
    plan, store = plan_from(Request(path))
    for job in plan.jobs:
        store.record_job(job.key, RECORD)
        for trial_id, trial in zip(job.trial_ids, job.trials, strict=True):
            (folder / "work").mkdir()
            store.finish(trial, trial_id, folder / "work", {"miou": 0.5}, ("note",), ABOUT)
            (folder / "work").rmdir()
    return path, plan, store


def run(path: Path, *words: str) -> str:
    """Run a command; return its output. Fails on any error but one line for a person."""
    done = RUN.invoke(app, [words[0], str(path), *words[1:]])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, InputError | StoreAwayError), (words, done.exc_info)
        return str(done.exception)
    return done.output


@pytest.mark.parametrize("name", ["result.json", "status.json", "metrics.json"])
def test_a_damaged_file_of_a_trial_makes_it_pending_with_a_reason(
    name: str, tmp_path: Path
) -> None:
    path, plan, store = finished_store(tmp_path, 1, len(KINDS) + 1)
    assert store.folder is not None
    *damaged, healthy = plan.trials
    for trial_id, kind in zip(damaged, KINDS, strict=True):
        place = store.folder / trial_id
        whole = (place / name).read_bytes() if name != "status.json" else b'{"state": "failed"}'
        if name == "status.json":
            (place / "result.json").unlink()
        damage_with(place / name, kind, whole)
    states = store.states(plan.trials)
    assert {state.state for state in states.values()} == {"pending", "finished"}
    assert states[healthy].state == "finished"
    for trial_id, kind in zip(damaged, KINDS, strict=True):
        assert states[trial_id].state == "pending", kind
        assert name in states[trial_id].reason, kind
    shown = run(path, "status")
    assert all(trial_id in shown for trial_id in damaged)
    for words in READERS:
        run(path, *words)


@pytest.mark.slow  # a Ray of its own
def test_a_launch_runs_the_trials_with_a_damaged_result_again(
    tmp_path: Path, machines: Cluster
) -> None:
    path, plan, store = finished_store(tmp_path, 1, len(KINDS) + 1)
    assert store.folder is not None
    for trial_id, kind in zip(plan.trials, KINDS, strict=False):
        place = store.folder / trial_id / "result.json"
        damage_with(place, kind, place.read_bytes())
    out = StringIO()
    assert launch(Request(path), Console(file=out, width=200), train_and_score) == 0
    assert set(store.results(plan.trials)) == set(plan.trials)
    assert "To run again: 0 trials." in run(path, "retry")


def store_with_damaged_jobs(folder: Path) -> tuple[Path, Plan, Store]:
    """Jobs without a result, each with a record, a claim and a count damaged in one way."""
    kinds = ("empty", "deep list", "folder", "read error", "pipe")
    path, plan, store = finished_store(folder, len(kinds))
    assert store.folder is not None
    for job, kind in zip(plan.jobs, kinds, strict=True):
        store.delete_trial(job.trial_ids[0])
        for name in ("record.json", "claim", "lives.json"):
            damage_with(store.folder / "jobs" / job.key / name, kind, b"")
    return path, plan, store


def test_commands_ignore_damaged_files_of_a_job(tmp_path: Path) -> None:
    path, _, _ = store_with_damaged_jobs(tmp_path)
    for words in (*READERS, ("status",)):
        run(path, *words)


@pytest.mark.slow  # a Ray of its own
def test_a_launch_ignores_damaged_files_of_a_job(tmp_path: Path, machines: Cluster) -> None:
    path, plan, store = store_with_damaged_jobs(tmp_path)
    out = StringIO()
    assert launch(Request(path), Console(file=out, width=200), train_and_score) == 0
    assert set(store.results(plan.trials)) == set(plan.trials)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_claim_record_or_count_of_attempts_is_ignored(kind: str, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    claim = {"owner": "l", "host": "h", "pid": 1, "token": "t", "beat": 1}
    damage_with(tmp_path / "jobs" / "k" / "claim", kind, json.dumps(claim).encode())
    damage_with(tmp_path / "jobs" / "k" / "record.json", kind, json.dumps(vars(RECORD)).encode())
    damage_with(tmp_path / "jobs" / "k" / "lives.json", kind, b'{"deaths": 1}')
    assert not store.job_held("k")
    assert store.job_records() == {}
    with store.claim_job("k", "l2") as taken:  # type: ignore[union-attr]
        assert store.job_held("k")
        assert not taken.lost.is_set()
        assert record_attempt(store, "k", "l", tmp_path / "jobs" / "k", 1) == 0


@pytest.mark.parametrize("kind", ["empty", "null", "deep list", "cut", "binary", "no keys"])
def test_a_damaged_claim_in_a_bucket_is_taken_over_if_it_does_not_change(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "SETTLE_S", 0.0)
    store = Store.open(f"memory://{tmp_path.name}-{kind.replace(' ', '')}")
    damage_with(tmp_path / "claim", kind, b'{"owner": 1}')
    store.files.write("jobs/k/claim", (tmp_path / "claim").read_bytes())
    taken = store.claim_job("k", "l2", wait_s=0.2)
    assert taken is not None
    taken.release()


def test_a_value_of_a_wrong_type_is_a_reason_or_is_not_used(tmp_path: Path) -> None:
    path, plan, store = finished_store(tmp_path, 1)
    (trial_id,), (job,) = plan.trials, plan.jobs
    status = {"state": "failed", "reason": "r", "job": "k", "launch": "l", "at": 1.0}
    claim = {"owner": "l", "host": "h", "pid": 1, "token": "t", "beat": 1}
    files: dict[str, Any] = {f"jobs/{job.key}/record.json": vars(RECORD)}
    files |= {f"jobs/{job.key}/claim": claim, f"{trial_id}/status.json": status}
    result = store.files.read(f"{trial_id}/result.json")
    assert result is not None
    everything = {name: json.dumps(value).encode() for name, value in files.items()}
    for name, whole in {**everything, f"{trial_id}/result.json": result}.items():
        for wrong in wrong_files(whole):
            store.files.write(name, wrong)
            found = store.states([trial_id])[trial_id]
            assert found.state in ("finished", "pending"), wrong
            assert found.state == "finished" or found.reason, wrong
            store.job_records()
            store.job_held(job.key)
        run(path, "status", "--all")
        run(path, "launch", "--dry-run")
        store.files.write(name, whole)
        if name.endswith("status.json"):
            store.files.delete(name)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_of_the_store_and_of_a_launch_stop_no_command(
    kind: str, tmp_path: Path
) -> None:
    path, _, store = finished_store(tmp_path, 1)
    assert store.folder is not None
    launch_files = ("claim", "experiment.json", "environment.json", "command.json", "stop")
    for name in ("store.json", *(f"launches/l/{file}" for file in launch_files)):
        damage_with(store.folder / name, kind, b'{"format": 1}')
    for words in (*READERS, ("launch",)):
        run(path, *words)


def test_damaged_results_stop_no_delivery_to_mlflow(tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    path, plan, store = finished_store(tmp_path, 4, tracking=tracking)
    assert store.folder is not None
    one, two, three, _ = plan.trials
    damage_with(store.folder / one / "result.json", "deep list", b"")
    damage_with(store.folder / two / "metrics.json", "folder", b"")
    note = json.loads((store.folder / three / "result.json").read_text())
    note["about"]["job"] = "../../secret"
    (store.folder / three / "result.json").write_text(json.dumps(note))
    assert "1 trial delivered." in run(path, "sync")


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("name", ["jobs", "launches", "comparisons", "artefacts"])
def test_a_file_or_folder_in_place_of_a_folder_stops_no_command(
    name: str, kind: str, tmp_path: Path
) -> None:
    path, _, store = finished_store(tmp_path, 1)
    assert store.folder is not None
    shutil.rmtree(store.folder / name, ignore_errors=True)
    if kind == "file":
        (store.folder / name).write_text("x")
    else:
        (store.folder / name / "x" / "claim").mkdir(parents=True)
    for words in (*READERS, ("launch",)):
        run(path, *words)
