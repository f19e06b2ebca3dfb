"""Real failures during a launch cost time, but never a result."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fssplat.experiment.trial import Job
from fssplat.launching import checks
from fssplat.launching.cluster import Cluster
from fssplat.launching.context import LaunchContext
from fssplat.launching.job_run import run
from fssplat.launching.launch import Request, launch, plan_from, trial_states
from fssplat.results.store import Store
from fssplat.tracking.launch_listener import MlflowListener, deliver
from tests.fakes.command_line import module_with_own_ray
from tests.fakes.engines import score_after_pause, train_and_score
from tests.fakes.experiment_files import experiment_without_images
from tests.fakes.trials import job, planned_job, trial

REPOSITORY = Path(__file__).parents[2]
LAUNCH = "tests.fakes.processes.launch"
SECOND_LAUNCH = [sys.executable, "-m", "tests.fakes.processes.second_launch"]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data sets of these tests have no images, so there are none to check."""
    monkeypatch.setattr(checks, "check_data", lambda plan: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def eventually(holds: Callable[[], bool], what: str, limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def attempts(store: Path) -> dict[str, int]:
    """Number of attempts by job, of the jobs that were started."""
    return {
        path.parent.name: len(path.read_text().splitlines())
        for path in store.glob("jobs/*/attempts")
    }


# ------------------------------------------------------------------ a full disk


@pytest.mark.slow
def test_a_disk_that_fills_at_any_moment_loses_no_result_and_no_bit(tmp_path: Path) -> None:
    script = (
        f"mount -t tmpfs -o size=4m none {tmp_path} && "
        f"{sys.executable} -m tests.fakes.processes.full_disk {tmp_path}"
    )
    private = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    if subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    done = subprocess.run(
        [*private, "sh", "-c", script], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    if done.returncode == 32:  # as mount says
        pytest.skip("no small disk can be mounted here")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 9
    short = [line for line in lines if line["state"] != "finished"]
    assert len(short) >= 4
    for line in short:
        assert line["state"] == "failed"
        assert re.search("no space left", line["reason"], re.IGNORECASE)
        assert line["stored"] != "finished"
    assert all(line["again"] == "finished" and line["same"] for line in lines)


def test_a_full_disk_ends_the_launch_before_every_job_fails(
    tmp_path: Path, machines: Cluster
) -> None:
    path = experiment_without_images(
        tmp_path, grid="{method: [panet], seed: [0, 1, 2, 3, 4, 5, 6, 7]}", tracking="none",
        resources="{cpu: 1, max_concurrent: 1}",
    )  # fmt: skip
    out = StringIO()
    assert launch(Request(path), Console(file=out, width=200), out_of_space) == 1
    assert "No space left on device" in out.getvalue()
    assert "Stopped. To go on: fssplat launch" in out.getvalue()
    plan, _ = plan_from(Request(path))
    failed = sum(status.state == "failed" for status in plan.states.values())
    assert 1 <= failed < 8


def out_of_space(
    one: Job, data: object, folder: Path, emit: object, stop: object, settings: object
) -> None:
    raise OSError(28, os.strerror(28), str(folder))


# ------------------------------------------------------------------ a clock that jumps


def jumping() -> float:
    """The time of day on a machine whose clock is set back and forth by days."""
    return CLOCK() + random.choice((-2, -1, 0, 1, 2)) * 86_400


CLOCK = time.time


def under_a_jumping_clock(one: Job, *arguments: object) -> None:
    """A counted job; the worker's clock jumps meanwhile."""
    time.time = jumping
    try:
        score_after_pause(one, *arguments)  # type: ignore[arg-type]
    finally:
        time.time = CLOCK


@pytest.mark.slow
def test_jumping_clocks_start_no_job_twice_and_skip_none(
    tmp_path: Path, machines: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path / "store"))
    monkeypatch.setattr("fssplat.launching.job_run.BUSY_S", 0.3)
    other = subprocess.Popen([*SECOND_LAUNCH, store.address])
    jobs = tuple(planned_job(job(trial(seed)), 10 - seed) for seed in range(5))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", jumping)
        run(
            jobs,
            LaunchContext(store, "l1", lambda note: None, work=under_a_jumping_clock),
            machines,
        )
    assert other.wait(timeout=200) == 0
    found = store.states(i for item in jobs for i in item.job.trial_ids)
    assert [status.state for status in found.values()] == ["finished"] * 5
    assert attempts(tmp_path / "store") == {item.job.key: 1 for item in jobs}


# ------------------------------------------------------------------ signals, and launches that meet


@pytest.mark.slow
def test_two_launches_of_one_file_at_once_run_each_job_once(tmp_path: Path) -> None:
    path = experiment_without_images(tmp_path, grid="{method: [panet], seed: [0, 1, 2, 3, 4, 5]}",
                      tracking="none")  # fmt: skip
    command = (LAUNCH, "score_after_pause", path)
    with module_with_own_ray(*command) as one, module_with_own_ray(*command) as other:
        said = [process.communicate(timeout=200)[0] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], said
    assert list(attempts(tmp_path / "store").values()) == [1] * 6


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_still_lets_jobs_write_checkpoints(
    tmp_path: Path,
) -> None:
    path = experiment_without_images(tmp_path, grid="{method: [panet], seed: [0]}", tracking="none")
    with module_with_own_ray(LAUNCH, "run_until_stopped", path, start_new_session=True) as process:
        eventually(lambda: bool(attempts(tmp_path / "store")), "no job started")
        os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=100)
    assert process.returncode == 143, said
    plan, store = plan_from(Request(path))
    (shown,) = trial_states(plan, store).values()
    assert shown == ("pending", "stopped at step 3")


# ------------------------------------------------------------------ MLflow away for a while


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """A real MLflow server, killed at the end."""
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.txt").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        eventually(lambda: _answers(port), (folder / "server.txt").read_text())
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def taking_turns(
    one: Job, data: object, folder: Path, emit: object, stop: object, settings: object
) -> None:
    """Seed 1 asks for the server to be killed and waits for that; seed 2 asks for its restart."""
    turns = folder.parents[2] / "turns"
    wish = {1: "away", 2: "back"}.get(one.first.training.seed)
    if wish:
        (turns / f"{wish}-please").touch()
        eventually(lambda: (turns / wish).exists(), f"the server is not {wish}")
    train_and_score(one, data, folder, emit, stop, settings)  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_mlflow_server_that_is_killed_and_restarted_has_every_run_in_the_end(
    tmp_path: Path, machines: Cluster, empty_database: Path
) -> None:
    import threading

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    turns = tmp_path / "turns"
    turns.mkdir()
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    path = experiment_without_images(
        tmp_path, grid="{method: [panet], seed: [0, 1, 2, 3]}", tracking=f"http://127.0.0.1:{port}",
        resources="{cpu: 1, max_concurrent: 1}",
    )  # fmt: skip
    codes: list[int] = []
    request = Request(path)
    one = threading.Thread(
        target=lambda: codes.append(launch(request, _console(), taking_turns, [MlflowListener()]))
    )
    with server(tmp_path, port):
        one.start()
        eventually((turns / "away-please").exists, "seed 1 did not start")
    (turns / "away").touch()
    eventually((turns / "back-please").exists, "seed 2 did not start")
    with server(tmp_path, port):
        (turns / "back").touch()
        one.join(timeout=120)
        assert codes == [0]
        plan, store = plan_from(request)
        deliver(
            plan.experiment, store, plan.trials, plan.fingerprints, print
        )  # what `fssplat sync` does
        check_runs(f"http://127.0.0.1:{port}")


def check_runs(uri: str) -> None:
    """There are four finished runs, each with one complete curve."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    trials = [one for one in found if one.data.tags["fssplat.kind"] == "trial"]
    assert [one.info.status for one in trials] == ["FINISHED"] * 4
    for one in trials:
        curve = client.get_metric_history(one.info.run_id, "loss/total")
        assert sorted(point.step for point in curve) == [1, 2, 3, 4]
        assert len(client.get_metric_history(one.info.run_id, "miou")) == 1


def _console() -> Console:
    return Console(file=StringIO(), width=200)
