"""The files in cluster/: the AWS file against Ray's schema, the SLURM script with stand-ins.

tests/cluster/test_slurm.py runs the script with a real SLURM.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"


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


def test_the_scripts_have_no_finding_of_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    scripts = [str(path) for path in CLUSTER.glob("*.sh")]
    assert scripts
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def run_slurm_script(folder: Path, image: str = "", **commands: str) -> tuple[int, str]:
    """Run the batch script on one node with stand-ins for commands. Returns its code and output."""
    (folder / "bin").mkdir()
    for name, body in commands.items():
        path = folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "CONTAINER": image,
        "MOUNTS": "/data",
        "TMPDIR": "/tmp",
        "SLURM_JOB_ID": str(90000 + os.getpid()),
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "one",
        "SLURM_NODEID": "0",
    }
    done = subprocess.run(
        [str(CLUSTER / "slurm.sh"), "x.yaml"], env=environment, cwd=folder, timeout=100,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_the_batch_script_ends_if_ray_does_not_start(tmp_path: Path) -> None:
    code, said = run_slurm_script(
        tmp_path,
        srun='while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
        ray='echo "no room in /tmp" >&2; exit 1',
    )
    assert code == 1
    assert said.splitlines()[0] == "no room in /tmp"
    assert said.splitlines()[-1].startswith("slurm.sh: Ray did not start on ")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("", []),
        ("a.sif", ["apptainer exec --nv", "--bind /tmp:/tmp,{here}:{here},/data:/data a.sif"]),
        (
            "a.sqsh",
            [
                "--container-image=a.sqsh",
                "--container-mounts=/tmp:/tmp,{here}:{here},/data:/data",
                "--container-workdir={here}",
            ],
        ),
    ],
)
def test_an_image_gets_the_folders_that_a_launch_needs(
    tmp_path: Path, image: str, expected: list[str]
) -> None:
    """Neither apptainer nor pyxis can run here, so this checks what they are asked for."""
    _, said = run_slurm_script(tmp_path, image, srun='echo "$@"; exit 3')
    asked = said.partition(" bash -c ")[0]
    assert ("apptainer" in asked, "--container" in asked) == (image == "a.sif", image == "a.sqsh")
    for part in expected:
        assert part.format(here=tmp_path) in asked
