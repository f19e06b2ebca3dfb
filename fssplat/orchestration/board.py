"""How workers tell the driver what goes on, and learn that it wants to stop.

One small actor holds the notes between two visits of the driver. Nothing of value passes through
it: results are in the store before a note says so, and a lost note costs a line on the screen.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from fssplat.orchestration.store import State

PULSE_S = 1.0  # seconds between two notes of a running job


@dataclass(frozen=True)
class Point:
    """Losses at one step of a training."""

    step: int
    losses: Mapping[str, float]
    lr: float


@dataclass(frozen=True)
class JobStarted:
    key: str
    trial_ids: tuple[str, ...]


@dataclass(frozen=True)
class JobProgress:
    key: str
    phase: str  # training, scoring
    done: float  # share of the phase, 0 to 1
    points: tuple[Point, ...] = ()  # thinned losses since the last note


@dataclass(frozen=True)
class JobUsage:
    """What a job's process and GPU are used for, now and then."""

    key: str
    seconds: int  # since the job started
    values: Mapping[str, float]  # see `usage.Meter`


@dataclass(frozen=True)
class TrialDone:
    key: str
    trial_id: str
    metrics: Mapping[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialEnded:
    """A trial that has no numbers, and why."""

    key: str
    trial_id: str
    state: State
    reason: str


@dataclass(frozen=True)
class JobEnded:
    key: str
    state: str  # finished, failed, diverged, skipped, interrupted, busy
    reason: str = ""


Note = JobStarted | JobProgress | JobUsage | TrialDone | TrialEnded | JobEnded


@dataclass
class Board:
    """The notes not yet fetched, and the wish to stop. Lives in one Ray actor."""

    notes: list[Note] = field(default_factory=list)
    stopping: bool = False

    def tell(self, notes: list[Note]) -> bool:
        """Leave notes; True where the launch is stopping."""
        self.notes += notes
        return self.stopping

    def fetch(self) -> list[Note]:
        """Take all notes away."""
        notes, self.notes = self.notes, []
        return notes

    def stop(self) -> None:
        self.stopping = True


def open_board() -> Any:
    """A board in an actor beside the driver, so that only the driver's death takes it away."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(here, soft=False)
    actor: Any = ray.remote(Board)
    return actor.options(num_cpus=0, scheduling_strategy=strategy).remote()


class Channel(Protocol):
    """A worker's side of the board."""

    def tell(self, notes: list[Note]) -> bool:
        """Deliver notes; True where the launch is stopping."""
        ...


class RayChannel:
    """The board as a Ray actor; a board that has gone means the driver has."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def tell(self, notes: list[Note]) -> bool:
        import ray

        try:
            return bool(ray.get(self._board.tell.remote(notes), timeout=30))
        except ray.exceptions.GetTimeoutError:
            return False
        except ray.exceptions.RayError:
            return True


class Pulse:
    """Tells the board once a second how far a job is; asks each time whether to stop."""

    def __init__(self, channel: Channel, every: Callable[[], None] = lambda: None) -> None:
        self._channel, self._every = channel, every
        self._lock = threading.Lock()
        self._waiting: list[Note] = []
        self._end = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def start(self, first: Note) -> bool:
        """Tell that the job starts; True where it should not."""
        self._stopping = self._channel.tell([first])
        if not self._stopping:
            self._thread.start()
        return self._stopping

    def add(self, note: Note) -> None:
        """Hold a note for the next beat. Progress of one phase replaces what was held of it."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if (
                isinstance(note, JobProgress)
                and isinstance(last, JobProgress)
                and last.phase == note.phase
            ):
                self._waiting[-1] = JobProgress(
                    note.key, note.phase, note.done, last.points + note.points
                )
            else:
                self._waiting.append(note)

    def stopping(self) -> bool:
        return self._stopping

    def end(self, last: Note) -> None:
        """Deliver what is held, and how the job ended."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        self.add(last)
        self._deliver()

    def _beat(self) -> None:
        while not self._end.wait(PULSE_S):
            self._deliver()
            with suppress(Exception):  # this thread carries the wish to stop, and must not end
                self._every()

    def _deliver(self) -> None:
        with self._lock:
            notes, self._waiting = self._waiting, []
        self._stopping = self._channel.tell(notes) or self._stopping
