"""Once a second a worker reports what its job has done, and asks whether to stop."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from fssplat.results.notes import JobProgress, Note

PULSE_S = 1.0  # seconds between two notes of a running job


class Channel(Protocol):
    """A worker's side of the board."""

    def tell(self, notes: list[Note]) -> bool:
        """Deliver notes; True where the launch is stopping."""
        ...


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
