"""A Ray actor between workers and driver: workers send notes to it and learn of a stop request.

Results do not pass through it: they are in the store before a note reports them, and a lost note
costs one line on the screen. If the actor dies, the driver starts another one under the same name,
and the workers look it up.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from fssplat.common.errors import RayLostError
from fssplat.results.notes import Note

SEND_S = 30.0  # that a worker waits for the board's answer
FETCH_S = 5.0  # that the driver waits for it
WATCH_S = 2.0  # between two looks of the driver whether the board runs
MAX_FAILED = 60  # calls in a row, one per second: then a worker believes that its driver is dead


@dataclass
class Board:
    """The notes that the driver has not fetched yet, and whether the run is stopping."""

    notes: list[Note] = field(default_factory=list)
    stopping: bool = False

    def send(self, notes: list[Note]) -> bool:
        """Add notes. Returns True if the run is stopping."""
        self.notes += notes
        return self.stopping

    def fetch(self) -> list[Note]:
        """Remove and return all notes."""
        notes, self.notes = self.notes, []
        return notes

    def stop(self) -> None:
        self.stopping = True


class OpenBoard:
    """The driver's side of the board. No method raises or blocks for long if the actor is dead."""

    def __init__(self) -> None:
        self._name = f"fssplat-board-{uuid4().hex}"
        self._lock = threading.Lock()
        self._stopping = False
        self._actor = self._start()
        self._fetching: Any = None  # a call whose answer did not come in time

    def channel(self) -> "RayChannel":
        """The workers' side."""
        return RayChannel(self._name)

    def stop(self) -> None:
        """Let the workers learn that the run is stopping."""
        self._stopping = True
        with contextlib.suppress(Exception):
            self._actor.stop.remote()

    def fetch(self) -> list[Note]:
        """The new notes; none if the board does not answer. A dead board is replaced."""
        import ray

        with self._lock:
            try:
                if self._fetching is None:
                    self._fetching = self._actor.fetch.remote()
                notes: list[Note] = ray.get(self._fetching, timeout=FETCH_S)
            except ray.exceptions.GetTimeoutError:
                return []  # its answer is asked for again, so that no note is lost
            except ray.exceptions.ActorUnavailableError:
                notes = []
            except ray.exceptions.RayError:
                notes = []
                self._replace()
            self._fetching = None
        return notes

    def watch(self, over: threading.Event) -> None:
        """Replace the board whenever it is dead, until `over` is set. For a thread that needs no
        notes; `fetch` does the same."""
        while not over.wait(WATCH_S):
            self.fetch()

    def close(self) -> None:
        import ray

        with contextlib.suppress(Exception):
            ray.kill(self._actor)

    def _replace(self) -> None:
        with contextlib.suppress(Exception):  # Ray itself may be dead: `RayWatch` notices
            self._actor = self._start()
            if self._stopping:
                self._actor.stop.remote()

    def _start(self) -> Any:
        """A board in an actor on the driver's node: another node's end does not end it."""
        import ray  # sets environment variables that `cluster` must set first
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = ray.get_runtime_context().get_node_id()
        strategy = NodeAffinitySchedulingStrategy(here, soft=False)
        actor: Any = ray.remote(Board)
        options = {"num_cpus": 0, "scheduling_strategy": strategy, "name": self._name}
        return actor.options(**options).remote()


@contextlib.contextmanager
def open_board() -> Iterator[OpenBoard]:
    """A board for the length of the block."""
    board = OpenBoard()
    try:
        yield board
    except RayLostError:
        raise  # no call to Ray returns any more
    except BaseException:
        board.close()
        raise
    board.close()


class RayChannel:
    """A worker's connection to the board, which it looks up by name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._board: Any = None
        self._unsent: list[Note] = []
        self._failed = 0  # calls in a row

    def send(self, notes: list[Note]) -> bool:
        """Deliver notes. Returns True if the run is stopping.

        Also if MAX_FAILED calls in a row failed: Ray ends the workers of a dead driver, but not
        those that it cannot reach. A time-out does not count: the board may be busy.
        """
        import ray  # as in `OpenBoard`

        self._unsent += notes
        for again in (True, False):
            if self._board is None and not self._find():
                break
            try:
                stopping = ray.get(self._board.send.remote(self._unsent), timeout=SEND_S)
            except ray.exceptions.GetTimeoutError:
                self._unsent = []  # the call may still arrive
                return False
            except ray.exceptions.ActorUnavailableError:
                break
            except ray.exceptions.RayError:
                self._board = None
                if not again:
                    break
            else:
                self._unsent, self._failed = [], 0
                return bool(stopping)
        self._failed += 1
        return self._failed >= MAX_FAILED

    def _find(self) -> bool:
        """Look up the board, or the one that replaced a dead one. Returns whether there is one."""
        import ray

        try:
            self._board = ray.get_actor(self._name)
        except (ValueError, ray.exceptions.RayError):
            return False
        return True
