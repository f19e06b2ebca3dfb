"""cluster/slurm.sh under a real SLURM on loopback."""

import shutil
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.experiment_files import experiment_of_many_jobs, experiment_without_images
from tests.fakes.processes.random_kills import differences, scored_twice
from tests.fakes.slurm import Slurm, slurm

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sh"
CHECKOUT = SCRIPT.parents[1]
COMMANDS = {
    "fssplat": 'shift; exec {python} -m tests.fakes.processes.launch "$WORK" "$@"\n',
    "ray": 'exec {python} -m ray.scripts.scripts "$@"\n',
    "python3": 'exec {python} "$@"\n',
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def running() -> Iterator[Slurm]:
    """SLURM with two nodes of four cores and two pretended GPUs each."""
    with slurm(nodes=2) as found:
        yield found


@pytest.fixture(autouse=True)
def commands(tmp_path: Path, running: Slurm, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the commands that jobs find first; jobs score after half a second."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in COMMANDS.items():
        add_command(folder, name, body)
    environment = running.environment
    monkeypatch.setitem(environment, "PATH", f"{folder}:{environment['PATH']}")
    monkeypatch.setitem(environment, "WORK", "score_after_pause")
    monkeypatch.setitem(environment, "PYTHONPATH", str(CHECKOUT))
    monkeypatch.setitem(environment, "OMP_NUM_THREADS", "1")
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delitem(environment, name, raising=False)
    return folder


def add_command(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text("#!/bin/bash\n" + body.replace("{python}", sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def small(folder: Path, seeds: int) -> Path:
    """An experiment of this many jobs, without a pixel to read."""
    folder.mkdir(exist_ok=True)
    grid = f"{{method: [panet], seed: {list(range(seeds))}}}"
    return experiment_without_images(folder, grid=grid, tracking="none")


def attempts(store: Path) -> Counter[int]:
    """How many jobs were started how often."""
    return Counter(len(one.read_text().splitlines()) for one in store.glob("jobs/*/attempts"))


def left_in_tmp(job: str) -> list[Path]:
    return list(Path("/tmp").glob(f"fss-{job}-*"))


def test_a_launch_over_two_nodes_goes_on_after_its_time_limit(
    tmp_path: Path, running: Slurm, synthetic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(running.environment, "WORK", "run_engine_slowly")
    stores = []
    for name in ("cut", "undisturbed"):
        path = experiment_of_many_jobs(tmp_path / name, synthetic, jobs=4)
        path.write_text(path.read_text().replace('"steps": 10', '"steps": 120'))
        options = ["--nodes=2", "--cpus-per-task=1", "--time=30", "--signal=B:TERM@60"]
        job = running.submit(*options, "--output=said.txt", SCRIPT, path, cwd=tmp_path / name)
        if name == "cut":
            until(lambda: any((tmp_path / "cut").glob("store/jobs/*/checkpoints/*")), 240)
            let_end_soon(running, job)
            running.wait(job, ["PENDING"], 240)
            # SLURM holds a requeued job back for two minutes
            running.run("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=30")
        ended = running.wait(job, ["COMPLETED", "FAILED", "TIMEOUT"], 900)
        assert ended == "COMPLETED", (tmp_path / name / "said.txt").read_text()
        stores.append(tmp_path / name / "store")
    cut, undisturbed = stores
    assert len(list(cut.glob("*/result.json"))) == 8
    assert attempts(undisturbed) == {1: 4}
    assert max(attempts(cut)) >= 2  # at least one job went on from its checkpoint
    assert "Stopped. To go on: " in (cut.parent / "said.txt").read_text()
    assert differences(undisturbed, cut) == []
    assert scored_twice(cut) == []


def test_two_jobs_on_one_node_do_not_meet(tmp_path: Path, running: Slurm) -> None:
    paths = [small(tmp_path / name, 6) for name in ("one", "other")]
    options = ["--nodelist=n1", "--gpus=1", "--cpus-per-task=1", "--output=said.txt"]
    jobs = [running.submit(*options, SCRIPT, path, cwd=path.parent) for path in paths]
    for job, path in zip(jobs, paths, strict=True):
        running.wait(job, ["COMPLETED", "FAILED"], 200)
        said = (path.parent / "said.txt").read_text()
        assert len(list((path.parent / "store").glob("*/result.json"))) == 6, said
        assert attempts(path.parent / "store") == {1: 6}
        assert "on 1 GPU" in said  # not those of the other job
        assert not left_in_tmp(job)


def test_the_tasks_of_an_array_share_the_jobs(tmp_path: Path, running: Slurm) -> None:
    path = small(tmp_path, 24)
    options = ["--array=0-3", "--cpus-per-task=1", "--output=said-%a.txt"]
    job = running.submit(*options, SCRIPT, path, cwd=tmp_path)
    running.wait(job, ["COMPLETED", "FAILED", "COMPLETED,FAILED"], 240)
    said = [(tmp_path / f"said-{task}.txt").read_text() for task in range(4)]
    assert running.state(job) == "COMPLETED", said
    assert len(list((tmp_path / "store").glob("*/result.json"))) == 24
    assert attempts(tmp_path / "store") == {1: 24}


def test_a_job_that_cannot_be_requeued_sends_a_following_one(
    tmp_path: Path, running: Slurm, commands: Path
) -> None:
    real = shutil.which("scontrol", path=running.environment["PATH"])
    add_command(commands, "scontrol", f'[ "$1" != requeue ] || exit 1\nexec {real} "$@"\n')
    path = small(tmp_path, 12)
    options = ["--cpus-per-task=1", "--output=said-%j.txt"]
    job = running.submit(*options, SCRIPT, path, cwd=tmp_path)
    until(lambda: any((tmp_path / "store").glob("*/result.json")), 120)
    running.run("scancel", "--batch", "--signal=TERM", job)  # as before the time limit
    running.wait(job, ["FAILED"], 90)
    following = str(int(job) + 1)
    running.wait(following, ["COMPLETED"], 120)
    assert len(list((tmp_path / "store").glob("*/result.json"))) == 12
    assert "Submitted batch job" in (tmp_path / f"said-{job}.txt").read_text()


def test_a_cancelled_job_does_not_come_back(tmp_path: Path, running: Slurm) -> None:
    path = small(tmp_path, 12)
    job = running.submit("--cpus-per-task=1", "--output=said.txt", SCRIPT, path, cwd=tmp_path)
    until(lambda: any((tmp_path / "store").glob("*/result.json")), 120)
    running.run("scancel", job)
    until(lambda: job not in running.run("squeue", "--noheader", "--format=%i").split(), 90)
    assert running.state(job) == "CANCELLED"
    assert not running.run("squeue", "--noheader").strip()
    until(lambda: not left_in_tmp(job), 60)


def let_end_soon(running: Slurm, job: str) -> None:
    """Lower the time limit of a running job to the end of this minute of its time."""
    hours, minutes, seconds = (int(part) for part in running.field(job, "RunTime").split(":"))
    ran_s = 3600 * hours + 60 * minutes + seconds
    running.run("scontrol", "update", f"JobId={job}", f"TimeLimit={ran_s // 60 + 1}")


def until(true: Callable[[], bool], limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)
