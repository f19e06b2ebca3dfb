"""Start Ray on this machine, on loopback, or join the cluster at RAY_ADDRESS."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fssplat.common.errors import InputError
from fssplat.planning.packing import PlannedJob

# Defaults of Tune that slow down many short jobs, or do what a launch does itself.
TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # three log files per trial
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `stop_on_signals` lets jobs write a checkpoint first
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # a loader may need a while to end
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # its state file is never read: the store is
    "TUNE_MAX_PENDING_TRIALS_PG": "200",  # workers that start at once; a searcher gets 1 otherwise
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # reasons are in the store and in the table
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a spec start at the launch's folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
PASSED_ON = ("FSSPLAT_", "AWS_", "FSSPEC_", "CUBLAS_", "TORCH_")  # to the workers of a cluster


@dataclass(frozen=True)
class Node:
    """Cores and GPUs of one machine of the cluster."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Cluster:
    nodes: tuple[Node, ...]
    local: bool

    @property
    def cpus(self) -> int:
        return int(sum(node.cpus for node in self.nodes))

    @property
    def gpus(self) -> int:
        return int(sum(node.gpus for node in self.nodes))

    def check(self, pending: tuple[PlannedJob, ...]) -> None:
        """Raises InputError for resources that no machine has: Ray would wait for them for ever."""
        for item in pending:
            if not any(_fits(item, node) for node in self.nodes):
                most = max(self.nodes, key=lambda node: (node.gpus, node.cpus), default=Node(0, 0))
                raise InputError(
                    f"{item.job.title}: needs {item.cpu:g} cores and {item.gpu:g} GPUs on one "
                    f"machine; the largest here has {most.cpus:g} and {most.gpus:g}. "
                    "Lower resources.cpu or resources.gpu, or join a larger cluster (RAY_ADDRESS)."
                )


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run Ray inside the block. If it already runs in this process, use it and leave it running."""
    address = os.environ.get("RAY_ADDRESS", "")
    for name, value in TUNE_SETTINGS.items():
        os.environ.setdefault(name, value)
    if not address:  # read when Ray is imported: all its sockets on 127.0.0.1
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray  # reads the variables above

    running = bool(ray.is_initialized())
    if not running:
        start(ray, address)
    try:
        yield Cluster(nodes(ray), local=not address)
    finally:
        if not running:
            ray.shutdown()


def start(ray: Any, address: str) -> None:
    """Join the cluster at `address`, or start one here. Raises InputError if none answers."""
    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        with _own_process_groups(ray):
            start_here(ray, address="local", include_dashboard=False, **common)
        return
    passed = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
    env = {**passed, **TUNE_SETTINGS}
    try:
        ray.init(address=address, runtime_env={"env_vars": env}, **common)
    except (ConnectionError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"RAY_ADDRESS={address}: no Ray cluster answers ({first}). "
            "Start one with `ray start --head`, or unset RAY_ADDRESS to run here."
        ) from error


def start_here(ray: Any, **arguments: Any) -> None:
    """Start Ray on this machine, with a second attempt if a busy machine exceeds Ray's 30 s."""
    for last in (False, True):
        try:
            ray.init(**arguments)
            return
        except Exception as error:  # Ray's own class for this is Exception itself
            ray.shutdown()
            if last or "timed out" not in str(error):
                first = str(error).strip().splitlines()[0]
                raise InputError(
                    f"Ray did not start on this machine: {first} "
                    "Free some memory and processor time, then run the same command again."
                ) from error


@contextmanager
def _own_process_groups(ray: Any) -> Iterator[None]:
    """Start Ray's processes inside the block in separate process groups.

    `timeout`, a closing terminal and batch systems signal the launch's whole group. Ray would end
    at once, before running jobs have written their checkpoints. Ray has no setting for it.
    """
    services = ray._private.services
    popen = services.ConsolePopen
    services.ConsolePopen = partial(popen, process_group=0)
    try:
        yield
    finally:
        services.ConsolePopen = popen


def nodes(ray: Any) -> tuple[Node, ...]:
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return tuple(Node(item.get("CPU", 0.0), item.get("GPU", 0.0)) for item in found)


def _fits(item: PlannedJob, node: Node) -> bool:
    return node.cpus >= item.cpu and node.gpus >= item.gpu
