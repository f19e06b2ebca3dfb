"""The folder of a job on this machine, and its copy in a store behind an address."""

import contextlib
import shutil
import threading
from pathlib import Path

from fssplat.common.plain_names import plain_path
from fssplat.results.store import Store

LOG_FILE = "log.txt"  # in a job's folder: what the job printed
TRAINING_FILE = "training.json"  # in a job's folder: see `TrainingRecord`


class JobFolder:
    """Copies a job's files between this machine and a store behind an address.

    If the store is a folder, the job's folder is in the store: nothing is copied or deleted.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self.folder = store.job_folder(key)
        self._sent: dict[str, tuple[int, int]] = {}  # name -> size and mtime in ns
        self._uploading = threading.Lock()  # the heartbeat thread uploads, too

    def download(self) -> None:
        """Download the job's files before it starts or resumes.

        Local files that were never uploaded are deleted: the job may have advanced on another
        machine.
        """
        _make(self.folder)
        if self._store.folder is not None:
            return
        self._upload_longer_log()
        stored = self._store.files.sizes(f"jobs/{self._key}")
        stored.pop("claim", None)
        for name in self._present():
            (self.folder / name).unlink()
        for name in stored:
            plain_path(name, f"store {self._store.address}, jobs/{self._key}")
            self._store.files.get(f"jobs/{self._key}/{name}", self.folder / name)
        self._sent = self._present()

    def upload_log(self) -> None:
        """Send only the log."""
        if self._store.folder is None:
            _send(self._store, f"jobs/{self._key}/{LOG_FILE}", self.folder / LOG_FILE)

    def _upload_longer_log(self) -> None:
        """Send the log of an attempt here whose process died before it could send the end of it."""
        local = self.folder / LOG_FILE
        if local.is_file():
            stored = self._store.files.read(f"jobs/{self._key}/{LOG_FILE}") or b""
            written = local.read_bytes()
            if len(written) > len(stored) and written.startswith(stored):
                self.upload_log()

    def remove(self) -> None:
        """Delete the local copy, once all of it is in the store, and folders left empty by it."""
        if self._store.folder is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.folder.parent.rmdir()
                self._store.scratch.rmdir()

    def upload(self) -> None:
        """Send files that changed since the last upload; delete those that the job has deleted."""
        if self._store.folder is None:
            with self._uploading:
                self._upload()

    def _upload(self) -> None:
        present = self._present()
        for name in sorted(present):
            if self._sent.get(name) != present[name]:
                _send(self._store, f"jobs/{self._key}/{name}", self.folder / name)
        for name in set(self._sent) - set(present):
            self._store.files.delete(f"jobs/{self._key}/{name}")
        self._sent = present

    def _present(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                facts = path.stat()
                name = path.relative_to(self.folder).as_posix()
                found[name] = (facts.st_size, facts.st_mtime_ns)
        return found


def _make(folder: Path) -> None:
    """Make a folder and those above it, which another process may remove as empty meanwhile."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return


def _send(store: Store, name: str, path: Path) -> None:
    try:
        store.files.put(name, path)
    except FileNotFoundError:  # the job has replaced it; the next upload sends the new file
        return
