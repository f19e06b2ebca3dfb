"""The result store: what is finished, what is not and why. MLflow only mirrors it.

    <store>/<trial_id>/   spec.json status.json metrics.json episodes.parquet panels/ result.json
    <store>/jobs/<key>/   checkpoints, steps.parquet, record.json (cost), claim
    <store>/launches/<id>/  experiment, environment, and how to stop it

`result.json` is written last and lists every file with its size: a trial is finished exactly when
that list holds. Whatever was cut short counts as absent.
"""

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from fssplat.common.errors import InputError
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Trial
from fssplat.results.claims import Claim, claim, held
from fssplat.results.files import LocalFiles, disk_errors, open_files

State = Literal["pending", "running", "finished", "failed", "diverged", "skipped"]
SETTLED: tuple[State, ...] = ("finished", "diverged", "skipped")  # a relaunch leaves these alone
MARKER = "result.json"


@dataclass(frozen=True)
class TrialStatus:
    """Where a trial stands; `reason` is one line for a person."""

    state: State
    reason: str = ""
    job: str = ""
    launch: str = ""


@dataclass(frozen=True)
class Result:
    """A finished trial's numbers and what was said about them, e.g. classes left out."""

    metrics: dict[str, float]
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)  # launch, commit, host, seconds


@dataclass(frozen=True)
class JobRecord:
    """What a finished job cost, kept to predict others."""

    method: str
    backbone: str
    dataset: str
    size: int  # training input, pixels
    batch: int
    device: str  # cpu, or the GPU's name
    flops: float  # as the cost model estimated them
    seconds: float
    peak_memory: int  # bytes
    device_memory: int = 0  # bytes of the whole GPU; 0 on CPU
    memory_kind: str = ""  # jobs of the same kind need the same memory


class Store:
    """Results at one address: a folder, a shared disk, or s3://."""

    def __init__(self, address: str) -> None:
        self.files = open_files(address)
        self.address = self.files.address

    @classmethod
    def open(cls, address: str) -> "Store":
        """A store that can be written, made where missing. Raises InputError."""
        store = cls(address)
        try:
            with disk_errors(store.address):
                store.files.write("store.json", json.dumps({"format": 1}).encode())
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"store {store.address}: cannot be written ({_first_line(error)}). Check the "
                "address and the credentials, or give another with --set store=<folder>."
            ) from error
        return store

    @property
    def folder(self) -> Path | None:
        """Where the store lies on this machine's disks; None behind an address."""
        return self.files.root if isinstance(self.files, LocalFiles) else None

    # -------------------------------------------------------------- trials

    def states(self, trial_ids: Iterable[str]) -> dict[str, TrialStatus]:
        """Where each trial stands. A result with a file missing or cut counts as absent."""
        wanted = list(trial_ids)
        there = set(self.files.folders()).intersection(wanted)
        names = [f"{trial_id}/status.json" for trial_id in there]
        notes = self.files.read_many(names)
        finished = self.results(there)
        states = {}
        for trial_id in wanted:
            if trial_id in finished:
                states[trial_id] = TrialStatus("finished")
            else:
                states[trial_id] = _status(notes.get(f"{trial_id}/status.json"))
        return states

    def results(self, trial_ids: Iterable[str]) -> dict[str, Result]:
        """The finished trials among those asked for."""
        markers = self.files.read_many([f"{trial_id}/{MARKER}" for trial_id in trial_ids])
        sizes = self._all_sizes() if len(markers) > 20 and self.folder is None else None
        found = {}
        for name, data in markers.items():
            trial_id = name.partition("/")[0]
            note = _mapping(data)
            if note is not None and self._complete(trial_id, note.get("files"), sizes):
                files = tuple(note["files"])
                found[trial_id] = Result(
                    note["metrics"], tuple(note["notes"]), files, note.get("about", {})
                )
        return found

    def mark(
        self,
        trial_ids: Iterable[str],
        state: State,
        reason: str = "",
        job: str = "",
        launch: str = "",
    ) -> None:
        """Write down where trials stand. `finished` is for `finish` alone."""
        note = asdict(TrialStatus(state, reason, job, launch))
        data = _json({**note, "at": time.time()})
        self.files.write_many({f"{trial_id}/status.json": data for trial_id in trial_ids})

    def finish(
        self,
        trial: Trial,
        trial_id: str,
        folder: Path,
        metrics: Mapping[str, float],
        notes: tuple[str, ...] = (),
        about: Mapping[str, Any] | None = None,
    ) -> Result:
        """Bring a trial's files in and, last, the marker that makes it finished.

        The files of `folder` move into the store. Raises InputError where the disk is full.
        """
        self.files.delete(f"{trial_id}/{MARKER}")
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not path.name.startswith(".") and name != MARKER:
                self.files.put(f"{trial_id}/{name}", path)
        self.files.write(f"{trial_id}/spec.json", _json(trial.model_dump(mode="json")))
        self.files.write(f"{trial_id}/metrics.json", _json(dict(metrics)))
        sizes = self.files.sizes(trial_id)
        sizes.pop("status.json", None)
        note = {"metrics": dict(metrics), "notes": list(notes), "files": sizes}
        self.files.write(f"{trial_id}/{MARKER}", _json({**note, "about": dict(about or {})}))
        self.files.delete(f"{trial_id}/status.json")
        return Result(dict(metrics), notes, tuple(sizes), dict(about or {}))

    def forget(self, trial_id: str) -> None:
        """Drop a trial's status and whatever it left, so that it counts as never run."""
        self.files.delete(trial_id)

    def _complete(self, trial_id: str, files: Any, sizes: Mapping[str, int] | None) -> bool:
        if not isinstance(files, dict):
            return False
        if sizes is not None:
            return all(sizes.get(f"{trial_id}/{name}") == size for name, size in files.items())
        if self.folder is not None:
            place = self.folder / trial_id
            return all(_size(place / name) == size for name, size in files.items())
        there = self.files.sizes(trial_id)
        return all(there.get(name) == size for name, size in files.items())

    def _all_sizes(self) -> dict[str, int]:
        return self.files.sizes("")

    # -------------------------------------------------------------- jobs

    def job_folder(self, key: str) -> Path:
        """Where a job works: in the store itself, or for an address in a node-local copy."""
        if self.folder is not None:
            return self.folder / "jobs" / key
        return self.scratch / "jobs" / key

    @property
    def scratch(self) -> Path:
        """This user's folder for the store's files on this machine."""
        name = f"fssplat-{os.getuid()}-{digest(self.address)}"
        return Path(tempfile.gettempdir()) / name

    def claim_job(self, key: str, owner: str, wait_s: float | None = None) -> Claim | None:
        """The right to run a job; None while another launch runs it."""
        return claim(self.files, f"jobs/{key}/claim", owner, wait_s)

    def job_held(self, key: str) -> bool:
        return held(self.files, f"jobs/{key}/claim")

    def record_job(self, key: str, record: JobRecord) -> None:
        self.files.write(f"jobs/{key}/record.json", _json(asdict(record)))

    def job_records(self) -> dict[str, JobRecord]:
        """What finished jobs cost, by job key; unreadable ones are left out."""
        names = [f"jobs/{key}/record.json" for key in self.files.folders("jobs")]
        records = {}
        for name, data in self.files.read_many(names).items():
            note = _mapping(data)
            if note is not None and set(note) == set(JobRecord.__dataclass_fields__):
                records[name.split("/")[1]] = JobRecord(**note)
        return records

    # -------------------------------------------------------------- launches

    def ask_to_stop(self, launch: str) -> None:
        self.files.write(f"launches/{launch}/stop", b"")

    def stop_asked(self, launch: str) -> bool:
        return self.files.read(f"launches/{launch}/stop") is not None

    def announce(self, launch: str) -> None:
        """Leave word of a launch, by which its workers know the store again."""
        self.files.write(f"launches/{launch}/announced", b"")

    def knows(self, launch: str) -> bool:
        """Whether this is the store that the launch announced itself in, not a namesake."""
        return self.files.read(f"launches/{launch}/announced") is not None

    def live_launches(self) -> list[str]:
        """Launches whose driver still holds its claim."""
        ids = self.files.folders("launches")
        return [one for one in ids if held(self.files, f"launches/{one}/claim")]


class Mirror:
    """Keeps a job's local folder and the store in step, where the store is behind an address.

    In a local store the folder is in the store, and nothing needs doing.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self.folder = store.job_folder(key)
        self._sent: dict[str, tuple[int, int]] = {}  # name -> size and mtime in ns
        self._pushing = threading.Lock()  # the pulse pushes as well

    def pull(self) -> None:
        """Make the folder what the store has of the job, before it starts or goes on.

        What an earlier life of the job left here and never sent is dropped: the job may have gone
        on elsewhere since.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._store.folder is not None:
            return
        kept = self._store.files.sizes(f"jobs/{self._key}")
        kept.pop("claim", None)
        for name in self._present():
            (self.folder / name).unlink()
        for name in kept:
            self._store.files.get(f"jobs/{self._key}/{name}", self.folder / name)
        self._sent = self._present()

    def drop(self) -> None:
        """Give the local copy up, once all of it is in the store."""
        if self._store.folder is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def push(self) -> None:
        """Send what is new since the last push; take back what the job has deleted."""
        if self._store.folder is None:
            with self._pushing:
                self._push()

    def _push(self) -> None:
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


def _send(store: Store, name: str, path: Path) -> None:
    try:
        store.files.put(name, path)
    except FileNotFoundError:  # the job replaced it meanwhile; the next push sends its successor
        return


def _status(data: bytes | None) -> TrialStatus:
    note = _mapping(data)
    if note is None or note.get("state") not in get_args(State):
        return TrialStatus("pending")
    if note["state"] == "finished":  # said so, but the marker does not hold
        return TrialStatus("pending", "its result was cut short")
    return TrialStatus(
        note["state"], note.get("reason", ""), note.get("job", ""), note.get("launch", "")
    )


def _mapping(data: bytes | None) -> dict[str, Any] | None:
    try:
        value = json.loads(data) if data else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
