"""Notice that Ray has ended under a launch, and end what is left of it.

Ray's own calls then block for ever, or end the process after a minute without a word.
"""

import contextlib
import threading
import time
from typing import Any

from fssplat.common.printing import complain

TICK_S = 0.5  # between two looks of the driver
ASK_S = 2.0  # between two questions to Ray's head
SILENT_S = 30.0  # without an answer; after 60 s Ray itself ends the process
VITAL = {  # Ray's processes without which no launch goes on
    "raylet": "raylet, which starts the workers",
    "gcs_server": "gcs_server, its head",
}


class RayWatch:
    """Looks whether Ray's processes on this machine, this machine's node and the head are alive."""

    def __init__(self) -> None:
        import ray  # only after `cluster` has set its environment variables

        self._ray: Any = ray
        self._node: Any = ray._private.worker._global_node
        self._node_id = ray.get_runtime_context().get_node_id()
        self._answers = 0
        self._seen, self._silent_s, self._looked = 0, 0.0, time.monotonic()
        self._node_alive = True
        self._over = threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()

    def lost(self) -> str:
        """What has ended, as a sentence; empty while Ray works. Call it every TICK_S seconds.

        Silence is counted call by call, so that a paused process does not count its pause.
        """
        dead = {kind for kind, _ in self._node.dead_processes()} if self._node else set()
        for kind, description in VITAL.items():
            if kind in dead:
                return (
                    f"Ray's process {description}, was killed or has ended (the system ends "
                    "processes when its memory is short)"
                )
        if not self._node_alive:
            return "Ray's head has given up this machine, whose Ray process ended or was stopped"
        now, answers = time.monotonic(), self._answers
        self._silent_s += min(now - self._looked, 2 * TICK_S)
        self._looked = now
        if answers != self._seen:
            self._seen, self._silent_s = answers, 0.0
        if self._silent_s > SILENT_S:
            return f"Ray's head has not answered for {SILENT_S:g} s"
        return ""

    def close(self) -> None:
        self._over.set()

    def _ask(self) -> None:
        """Ask the head for its nodes again and again. A call to a dead head blocks this thread."""
        while not self._over.wait(ASK_S):
            with contextlib.suppress(Exception):
                nodes: Any = self._ray.nodes()
                self._node_alive = all(
                    node["Alive"] for node in nodes if node["NodeID"] == self._node_id
                )
                self._answers += 1


def kill_ray() -> None:
    """Kill Ray's processes that this process started. The workers end after their raylet."""
    import ray  # as in `RayWatch`

    node: Any = ray._private.worker._global_node
    for group in node.all_processes.values() if node is not None else ():
        for info in group:
            with contextlib.suppress(OSError):
                info.process.kill()


def complain_of_loss(reason: Exception, kept: str, command: str) -> None:
    """Print what ended, what is kept, and the command that goes on."""
    complain(f"{reason}. {kept} To go on: {command}")
