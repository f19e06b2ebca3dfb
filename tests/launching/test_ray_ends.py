"""Ray's processes are killed under a launch: a line, exit code 1, a relaunch with the same bits."""

import os
import signal
from pathlib import Path

import pytest

from fssplat.launching.ray_faults.leftovers import OWNER
from tests.fakes.command_line import module_with_own_ray
from tests.fakes.experiment_files import experiment_with_images
from tests.fakes.processes.trees import child, eventually, output_after_a_kill

WAIT_S = 200  # for a whole launch, while other tests use the same cores
LITE0 = "efficientnet_lite0"
LOW_MEMORY = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "250"}


def experiment(folder: Path, data: Path, steps: int) -> Path:
    return experiment_with_images(
        folder, data, steps, tracking="none", resources={"cpu": 1}, evaluation={"panels": 0},
        backbones={LITE0: {"name": LITE0, "weights": "random"}},
        grid={"method": ["panet"], "backbone": [LITE0]},
    )  # fmt: skip


def scores(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes()
            for path in store.glob("*/episodes.parquet")}  # fmt: skip


def check_that_a_relaunch_has_the_bits_of_an_undisturbed_run(
    path: Path, quiet: Path, data: Path, command: str = "launch"
) -> None:
    """Run `command` on the disturbed file `path`, and an equal file in the folder `quiet`."""
    for name, one in ((command, path), ("launch", experiment(quiet, data, steps=40))):
        with module_with_own_ray("fssplat", name, one) as process:
            said, _ = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, said
    found = scores(path.parent / "store")
    assert found
    assert found == scores(quiet / "store")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["raylet/raylet ", "gcs_server ", "DashboardAgent"])
def test_a_launch_whose_ray_ends_says_how_to_go_on(
    tmp_path: Path, synthetic: Path, name: str
) -> None:
    path = experiment(tmp_path / "cut", synthetic, steps=40)
    with module_with_own_ray("fssplat", "launch", path) as process:
        said = output_after_a_kill(process, name, WAIT_S)
    assert process.returncode == 1, said
    (line,) = [one for one in said.splitlines() if one.startswith("fssplat: ")]
    assert line.endswith(f"To go on: fssplat launch {path}")
    assert "are kept in" in line
    check_that_a_relaunch_has_the_bits_of_an_undisturbed_run(path, tmp_path / "quiet", synthetic)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_that_memory_ends_again_and_again_runs_alone_then_fails_and_a_retry_finishes(
    tmp_path: Path, synthetic: Path
) -> None:
    path = experiment(tmp_path / "cut", synthetic, steps=40)
    with module_with_own_ray("fssplat", "launch", path, **LOW_MEMORY) as process:
        said, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1, said
    assert "starts again from its last checkpoint" in said
    assert "goes on alone, one job at a time" in said
    assert "failed, its worker failed" in said
    assert f"fssplat retry {path}" in said
    check_that_a_relaunch_has_the_bits_of_an_undisturbed_run(
        path, tmp_path / "quiet", synthetic, "retry"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_next_launch_removes_what_a_killed_launch_left(tmp_path: Path, synthetic: Path) -> None:
    path = experiment(tmp_path, synthetic, steps=40)
    (tmp_path / "t").mkdir()
    place = f"/tmp/f{os.getpid()}"  # tmp_path is too long for Ray's sockets
    Path(place).symlink_to(tmp_path / "t")
    try:
        with module_with_own_ray("fssplat", "launch", path, TMPDIR=place) as process:
            eventually(lambda: child(process, "ImplicitFunc.train"), "no worker started")
            os.kill(process.pid, signal.SIGKILL)
        left = {mark.parent for mark in Path(place).glob(f"**/{OWNER}")}
        assert len(left) == 2  # Tune's and Ray's
        with module_with_own_ray("fssplat", "launch", path, TMPDIR=place) as process:
            said, _ = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, said
        assert not any(one.exists() for one in left)
    finally:
        Path(place).unlink()
