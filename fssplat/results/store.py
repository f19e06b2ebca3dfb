"""The result store: which trials are finished, and why the others are not. MLflow gets copies.

    <store>/<trial_id>/   spec.json status.json metrics.json episodes.parquet panels/ result.json
    <store>/jobs/<key>/   checkpoints, steps.parquet, record.json (cost), claim
    <store>/launches/<id>/  experiment, environment, and how to stop it

`result.json` is written last and lists every file with its size. A trial is finished if all these
files are there with these sizes; an incomplete trial counts as not run.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from fssplat.common.errors import InputError, first_line
from fssplat.common.plain_names import is_plain_path, plain_path
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Trial
from fssplat.results.claims import Claim, claim, held
from fssplat.results.files import LocalFiles, disk_errors, open_files
from fssplat.results.records import JobRecord, Result, State, TrialStatus

MARKER = "result.json"


class Store:
    """Results at one address: a folder, a shared disk, or s3://."""

    def __init__(self, address: str) -> None:
        self.files = open_files(address)
        self.address = self.files.address

    @classmethod
    def open(cls, address: str) -> "Store":
        """A store that can be written; it is made if it is missing. Raises InputError."""
        store = cls(address)
        try:
            with disk_errors(store.address):
                store.files.write("store.json", json.dumps({"format": 1}).encode())
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"store {store.address}: cannot be written ({first_line(error)}). Check the "
                "address and the credentials, or give another with --set store=<folder>."
            ) from error
        return store

    @property
    def folder(self) -> Path | None:
        """The store's folder on this machine's disks; None for a store behind an address."""
        return self.files.root if isinstance(self.files, LocalFiles) else None

    # -------------------------------------------------------------- trials

    def states(self, trial_ids: Iterable[str]) -> dict[str, TrialStatus]:
        """The state of each trial. A result with a missing or incomplete file does not count."""
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
        """The results of those trials that are finished, by id."""
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
        """Write the state of trials. Only `finish` writes `finished`."""
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
        """Move the files of `folder` into the store, then write the marker of a finished trial.

        Raises InputError if the disk is full.
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

    def delete_trial(self, trial_id: str) -> None:
        """Delete all files of a trial, so that it counts as never run."""
        self.files.delete(trial_id)

    def _complete(self, trial_id: str, files: Any, sizes: Mapping[str, int] | None) -> bool:
        if not isinstance(files, dict) or not all(map(is_plain_path, files)):
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
        """The folder that a job writes to: in the store, or else in `scratch`."""
        plain_path(key, f"store {self.address}, job")
        if self.folder is not None:
            return self.folder / "jobs" / key
        return self.scratch / "jobs" / key

    @property
    def scratch(self) -> Path:
        """This user's folder for the store's files on this machine."""
        name = f"fssplat-{os.getuid()}-{digest(self.address)}"
        return Path(tempfile.gettempdir()) / name

    def claim_job(self, key: str, owner: str, wait_s: float | None = None) -> Claim | None:
        """The claim on a job, or None if another launch has it."""
        return claim(self.files, f"jobs/{key}/claim", owner, wait_s)

    def job_held(self, key: str) -> bool:
        return held(self.files, f"jobs/{key}/claim")

    def record_job(self, key: str, record: JobRecord) -> None:
        self.files.write(f"jobs/{key}/record.json", _json(asdict(record)))

    def job_records(self) -> dict[str, JobRecord]:
        """The cost of finished jobs, by job key; unreadable records are left out."""
        names = [f"jobs/{key}/record.json" for key in self.files.folders("jobs")]
        records = {}
        for name, data in self.files.read_many(names).items():
            note = _mapping(data)
            if note is not None and set(note) == set(JobRecord.__dataclass_fields__):
                records[name.split("/")[1]] = JobRecord(**note)
        return records

    # -------------------------------------------------------------- launches

    def request_stop(self, launch: str) -> None:
        self.files.write(f"launches/{launch}/stop", b"")

    def stop_requested(self, launch: str) -> bool:
        return self.files.read(f"launches/{launch}/stop") is not None

    def announce(self, launch: str) -> None:
        """Write a marker by which the launch's workers recognise this store."""
        self.files.write(f"launches/{launch}/announced", b"")

    def is_announced(self, launch: str) -> bool:
        """Whether the launch's marker is here. If not, another store has the same address."""
        return self.files.read(f"launches/{launch}/announced") is not None

    def running_launches(self) -> list[str]:
        """Launches whose driver has its claim."""
        ids = self.files.folders("launches")
        return [one for one in ids if held(self.files, f"launches/{one}/claim")]


def _status(data: bytes | None) -> TrialStatus:
    note = _mapping(data)
    if note is None or note.get("state") not in get_args(State):
        return TrialStatus("pending")
    if note["state"] == "finished":  # but its marker is missing or wrong
        return TrialStatus("pending", "its result is incomplete")
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
