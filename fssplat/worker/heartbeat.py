"""Send a running job's notes to its launch once a second, and learn whether to stop."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from fssplat.results.notes import JobProgress, Note

BEAT_S = 1.0  # seconds between two beats of a running job


class Channel(Protocol):
    """The connection from a worker to the board of its launch or search."""

    def send(self, notes: list[Note]) -> bool:
        """Deliver notes. Returns True if the launch is stopping."""
        ...


class Heartbeat:
    """Sends the notes of one job from a thread, once a second, and keeps the answer."""

    def __init__(self, channel: Channel, at_each_beat: Callable[[], None] = lambda: None) -> None:
        self._channel, self._at_each_beat = channel, at_each_beat
        self._lock = threading.Lock()
        self._waiting: list[Note] = []
        self._end = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def start(self, first: Note) -> bool:
        """Send the first note. Returns True if the launch is stopping: then no thread starts."""
        self._stopping = self._channel.send([first])
        if not self._stopping:
            self._thread.start()
        return self._stopping

    def add(self, note: Note) -> None:
        """Keep a note for the next beat. Progress within one phase is merged into one note."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if (
                isinstance(note, JobProgress)
                and isinstance(last, JobProgress)
                and last.phase == note.phase
            ):
                self._waiting[-1] = replace(note, points=last.points + note.points)
            else:
                self._waiting.append(note)

    def stopping(self) -> bool:
        """Whether the launch has asked the job to stop."""
        return self._stopping

    def end(self, last: Note) -> None:
        """End the thread, then send the waiting notes and `last`."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        self.add(last)
        self._deliver()

    def _beat(self) -> None:
        while not self._end.wait(BEAT_S):
            self._deliver()
            with suppress(Exception):  # this thread brings the stop request, so it must not end
                self._at_each_beat()

    def _deliver(self) -> None:
        with self._lock:
            notes, self._waiting = self._waiting, []
        self._stopping = self._channel.send(notes) or self._stopping
