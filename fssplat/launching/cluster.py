"""Start Ray on this machine, on loopback, or join the cluster at RAY_ADDRESS."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError, RayLostError, first_line
from fssplat.common.locks import FileLock
from fssplat.common.printing import complain
from fssplat.launching.ray_faults.address import check_address, no_answer, ray_address
from fssplat.launching.ray_faults.folder import check_ray_folder, give_ray_a_token, ray_folder
from fssplat.launching.ray_faults.leftovers import SESSIONS, mark_as_owned, remove_leftovers
from fssplat.launching.ray_faults.watch import kill_ray
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
JOIN_S = 60.0  # that joining a cluster may take
NODES = "FSSPLAT_NODES"  # variable: how many nodes the cluster will have
NODES_S = 120.0  # that a launch waits for them; nodes can join later, too
SESSION_LOCKS: list[FileLock] = []  # held until the process ends
SHUTDOWN_S = 40.0  # that Ray may take to end
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
    address = ray_address()
    for name, value in TUNE_SETTINGS.items():
        os.environ.setdefault(name, value)
    if not address:  # read when Ray is imported: all its sockets on 127.0.0.1
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray  # reads the variables above

    running = bool(ray.is_initialized())
    if not running:
        start(ray, address)
    _keep_session(ray, started_here=not running and not address)
    if address:
        _wait_for_nodes(ray)
    try:
        yield Cluster(nodes(ray), local=not address)
    except RayLostError:
        kill_ray()
        raise
    except BaseException:
        if not running:
            _shut_down(ray)
        raise
    if not running and not _shut_down(ray):
        raise RayLostError("Ray did not end when asked to")


def _keep_session(ray: Any, started_here: bool) -> None:
    """Mark Ray's folder as used by this process. The next launch removes it, with its logs."""
    if started_here:
        with suppress(OSError):
            folder = Path(ray._private.worker._global_node.get_session_dir_path())
            SESSION_LOCKS.append(mark_as_owned(folder))


def _shut_down(ray: Any) -> bool:
    """End Ray. If it does not end within SHUTDOWN_S, kill it and return False."""
    thread = threading.Thread(target=ray.shutdown, daemon=True)
    thread.start()
    thread.join(SHUTDOWN_S)
    if thread.is_alive():
        kill_ray()
    return not thread.is_alive()


def start(ray: Any, address: str) -> None:
    """Join the cluster at `address`, or start one here. Raises InputError if that fails."""
    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        remove_leftovers(ray_folder(), SESSIONS)
        check_ray_folder(ray_folder())
        give_ray_a_token()
        with _own_process_groups(ray):
            start_here(ray, address="local", include_dashboard=False, **common)
        return
    passed = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
    env = {**passed, **TUNE_SETTINGS}
    try:
        if address == "auto":  # the head that was started last on this machine
            address = ray._private.services.canonicalize_bootstrap_address_or_die(address)
        check_address(address)
        with _time_limit(address):
            ray.init(address=address, runtime_env={"env_vars": env}, **common)
    except InputError:
        raise
    except Exception as error:  # Ray raises what its own parts raised
        raise no_answer(address, first_line(error)) from error


@contextmanager
def _time_limit(address: str) -> Iterator[None]:
    """End the process if the body takes longer than JOIN_S: Ray waits in code without signals."""

    def end_process() -> None:
        complain(str(no_answer(address, f"nothing within {JOIN_S:g} s")))
        sys.stderr.flush()
        os._exit(2)

    timer = threading.Timer(JOIN_S, end_process)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def start_here(ray: Any, **arguments: Any) -> None:
    """Start Ray on this machine, with a second attempt if a busy machine exceeds Ray's 30 s."""
    for last in (False, True):
        try:
            ray.init(**arguments)
            return
        except Exception as error:  # Ray's own class for this is Exception itself
            ray.shutdown()
            if last or "timed out" not in str(error):
                raise InputError(
                    f"Ray did not start on this machine: {first_line(error)} {_advice(error)}"
                ) from error


def _advice(error: Exception) -> str:
    """What to do about an error while Ray starts."""
    if isinstance(error, OSError) and error.filename:
        return "Make that path writable, or give Ray another folder: export RAY_TMPDIR=<folder>"
    if is_disk_full(error):
        return f"Make room in {ray_folder()}, or give another: export RAY_TMPDIR=<folder>"
    if "timed out" in str(error):
        return "Free some memory and processor time, then run the same command again."
    return f"Ray's logs are in {ray_folder() / 'session_latest' / 'logs'}."


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


def _wait_for_nodes(ray: Any) -> None:
    """Wait until as many nodes have joined as NODES says, so that the plan counts all of them."""
    expected = os.environ.get(NODES, "")
    end = time.monotonic() + NODES_S
    while expected.isdecimal() and len(nodes(ray)) < int(expected) and time.monotonic() < end:
        time.sleep(0.5)


def nodes(ray: Any) -> tuple[Node, ...]:
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return tuple(Node(item.get("CPU", 0.0), item.get("GPU", 0.0)) for item in found)


def _fits(item: PlannedJob, node: Node) -> bool:
    return node.cpus >= item.cpu and node.gpus >= item.gpu
