"""One small Ray actor between workers and driver: workers leave notes and learn of a stop.

Nothing of value passes through it: results are in the store before a note says so, and a lost note
costs a line on the screen.
"""

from dataclasses import dataclass, field
from typing import Any

from fssplat.results.notes import Note


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
