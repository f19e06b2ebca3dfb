"""A Ray actor between workers and driver: workers send notes to it and learn of a stop request.

Results do not pass through it: they are in the store before a note reports them, and a lost note
costs one line on the screen.
"""

from dataclasses import dataclass, field
from typing import Any

from fssplat.results.notes import Note


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


def open_board() -> Any:
    """A board in an actor on the driver's node, so that it ends only if the driver's node does."""
    import ray  # sets environment variables that `cluster` must set first
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(here, soft=False)
    actor: Any = ray.remote(Board)
    return actor.options(num_cpus=0, scheduling_strategy=strategy).remote()


class RayChannel:
    """A worker's connection to the board. If the board is dead, so is the driver."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def send(self, notes: list[Note]) -> bool:
        """Deliver notes. Returns True if the run is stopping or the board is dead."""
        import ray  # as in `open_board`

        try:
            return bool(ray.get(self._board.send.remote(notes), timeout=30))
        except ray.exceptions.GetTimeoutError:
            return False
        except ray.exceptions.RayError:
            return True
