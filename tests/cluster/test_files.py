"""The files in cluster/: the AWS file against Ray's schema, the SLURM script with fake commands."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.fakes.experiment_files import experiment_without_images

CLUSTER = Path(__file__).parents[2] / "cluster"
FAKE_COMMANDS = {
    "scontrol": 'echo "$@" >> "$CALLS"\n[ "$1" = show ] && printf "one\\ntwo\\n" || true\n',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\n'
    '[ "$1" = hostname ] && echo 127.0.0.1 || exec "$@"\n',
    "fssplat": 'shift; exec {python} -m tests.fakes.processes.launch "$WORK" "$@"\n',
    "ray": 'exec {python} -m ray.scripts.scripts "$@"\n',
}


def test_rays_own_schema_accepts_the_cluster_file() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import json

    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    config = yaml.safe_load((CLUSTER / "ray-aws.yaml").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]


def test_every_machine_of_the_cluster_file_names_its_image() -> None:
    config = yaml.safe_load((CLUSTER / "ray-aws.yaml").read_text())
    machines = [kind["node_config"] for kind in config["available_node_types"].values()]
    assert all("ImageId" in machine for machine in machines)  # Ray's default has Python 3.6
    assert any("boto3" in command for command in config["setup_commands"])  # the head needs it


def fake_commands(folder: Path, commands: dict[str, str]) -> Path:
    """Write fake SLURM commands that run their arguments on this machine."""
    folder.mkdir()
    for name, body in commands.items():
        path = folder / name
        path.write_text("#!/bin/bash\n" + body.replace("{python}", sys.executable))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder


def batch(tmp_path: Path, work: str, path: Path, **others: str) -> "subprocess.Popen[str]":
    """Start the batch script; `others` replace some of the fake commands."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{fake_commands(tmp_path / 'bin', FAKE_COMMANDS | others)}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls.txt"),
        "WORK": work,
        "SLURM_JOB_ID": str(port - 20000 if port >= 20000 else port + 20000),
        "SLURM_JOB_NODELIST": "two-nodes",
        "SLURM_CPUS_ON_NODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    return subprocess.Popen(
        [str(CLUSTER / "slurm.sh"), str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_the_batch_script_launches_over_its_nodes(tmp_path: Path) -> None:
    import signal

    path = experiment_without_images(
        tmp_path, grid="{method: [panet], seed: [0, 1, 2, 3]}", tracking="none"
    )
    process = batch(tmp_path, "score_after_pause", path)
    try:
        process.wait(timeout=200)
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # as SLURM does at the end of a job
    assert process.stdout is not None
    said = process.stdout.read()
    assert process.returncode == 0, said
    assert len(list((tmp_path / "store").glob("*/result.json"))) == 4
    assert "requeue" not in (tmp_path / "calls.txt").read_text()


def test_the_batch_script_ends_if_ray_does_not_start(tmp_path: Path) -> None:
    broken = 'echo "no room in /tmp" >&2\nexit 1\n'
    process = batch(tmp_path, "score_after_pause", experiment_without_images(tmp_path), ray=broken)
    try:
        said, _ = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 1
    assert said.splitlines()[0] == "no room in /tmp"
    assert said.splitlines()[-1].startswith("slurm.sh: Ray did not start on one, see above.")
    assert not (tmp_path / "store").exists()
