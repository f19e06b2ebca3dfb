"""Several Ray nodes on this machine's loopback, each with one CPU and one pretended GPU."""

import os
import signal
from types import TracebackType
from typing import Any, Self

STORE_BYTES = 80_000_000  # of shared memory per node; jobs pass nothing through it


class LocalCluster:
    """A head and workers; each has its own raylet, which can be killed and replaced."""

    def __init__(self, workers: int, gpus: int = 1) -> None:
        from ray.cluster_utils import Cluster

        self._each = {"num_cpus": 1, "num_gpus": gpus, "object_store_memory": STORE_BYTES}
        self._cluster: Any = Cluster(
            initialize_head=True, head_node_args={**self._each, "include_dashboard": False}
        )
        self.workers = [self.add() for _ in range(workers)]
        self._cluster.wait_for_nodes(timeout=120)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self) -> Any:
        """A new node; it joins within seconds."""
        return self._cluster.add_node(**self._each, wait=False)

    def kill_and_replace(self, index: int) -> None:
        """SIGKILL the raylet of a worker node and add a new node."""
        node = self.workers[index]
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)  # also reaps the dead process
        self.workers[index] = self.add()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cluster.shutdown()
