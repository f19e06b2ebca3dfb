"""The result store: which trials are finished, and why the others are not. MLflow gets copies.

    <store>/<trial_id>/   spec.json status.json metrics.json episodes.parquet details.parquet
                          predictions.parquet panels/ result.json
    <store>/jobs/<key>/   checkpoints, steps.parquet, training.json, record.json (cost), claim
    <store>/launches/<id>/  experiment, environment, and how to stop it
    <store>/timings/<hardware>/  what an episode of a method costs there

`result.json` is written last and lists every file with its size. A trial is finished if all these
files are there with these sizes; an incomplete trial counts as not run.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError, first_line
from fssplat.common.json_files import json_object
from fssplat.common.passwords import hidden
from fssplat.common.plain_names import is_plain_path, plain_path
from fssplat.engine.scoring.kept.names import PREDICTIONS
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Trial
from fssplat.results.claims import Claim, claim, held, owner_of
from fssplat.results.episodes.predictions import Predictions, read_predictions
from fssplat.results.files import LocalFiles, disk_errors, open_files
from fssplat.results.reading import read_job_record, read_result, read_status, read_timing
from fssplat.results.records import JobRecord, Result, State, Timing, TrialStatus

FORMAT_FILE, FORMAT = "store.json", 1
MARKER = "result.json"
CHECKPOINT = re.compile(r"step-(\d{1,18})\.safetensors")  # file name of one
CHECKSUM = "checksum"  # key in the marker: SHA-256 of its other keys


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
            store.check_format()
            with disk_errors(store.address):
                store.files.write(FORMAT_FILE, json.dumps({"format": FORMAT}).encode())
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"store {store.shown_address}: cannot be written ({first_line(error)}). Check the "
                "address and the credentials, or give another with --set store=<folder>."
            ) from error
        return store

    def check_format(self) -> None:
        """Raises InputError for results of another version, or a file of another program.

        A damaged file does not matter: it is written again.
        """
        try:
            found = json_object(self.files.read(FORMAT_FILE) or b"").get("format")
        except ValueError:
            return
        if found != FORMAT:
            raise InputError(
                f"store {self.shown_address}: its {FORMAT_FILE} has format {found!a:.40}; this "
                f"fssplat reads {FORMAT}. Use the fssplat that wrote it, or give another store "
                "with --set store=<folder>."
            )

    @property
    def shown_address(self) -> str:
        """The address for a person: without passwords."""
        return hidden(self.address)

    @property
    def folder(self) -> Path | None:
        """The store's folder on this machine's disks; None for a store behind an address."""
        return self.files.root if isinstance(self.files, LocalFiles) else None

    # -------------------------------------------------------------- trials

    def states(self, trial_ids: Iterable[str]) -> dict[str, TrialStatus]:
        """The state of each trial. A result with a missing or incomplete file does not count."""
        wanted = list(trial_ids)
        there = set(self.files.folders()).intersection(wanted)
        notes = self.files.read_many([f"{trial_id}/status.json" for trial_id in there])
        finished, damaged = self._read_results(there)
        states = {}
        for trial_id in wanted:
            note = notes.get(f"{trial_id}/status.json")
            status = _status(note, damaged.get(trial_id, ""))
            if trial_id in finished and not status.rerun:
                status = TrialStatus("finished")
            states[trial_id] = status
        return states

    def results(self, trial_ids: Iterable[str]) -> dict[str, Result]:
        """The results of those trials that are finished, by id."""
        return self._read_results(trial_ids)[0]

    def _read_results(self, trial_ids: Iterable[str]) -> tuple[dict[str, Result], dict[str, str]]:
        """The results that count, and why others do not, by trial id."""
        markers = self.files.read_many([f"{trial_id}/{MARKER}" for trial_id in trial_ids])
        sizes = self._all_sizes() if len(markers) > 20 and self.folder is None else None
        found, damaged = {}, {}
        for name, data in markers.items():
            trial_id = name.partition("/")[0]
            try:
                result, files = read_result(data)
            except ValueError as error:
                damaged[trial_id] = f"its {MARKER} {_sentence(error)}"
                continue
            incomplete = self._incomplete(trial_id, files, sizes)
            if incomplete:
                damaged[trial_id] = f"its result is incomplete: {incomplete} is missing or cut"
            else:
                found[trial_id] = result
        return found, damaged

    def mark(
        self,
        trial_ids: Iterable[str],
        state: State,
        reason: str = "",
        job: str = "",
        launch: str = "",
        rerun: Container[str] = (),
    ) -> None:
        """Write the state of trials. Only `finish` writes `finished`.

        Trials in `rerun` have a result that is kept until `finish` replaces it.
        """
        note = asdict(TrialStatus(state, reason, job, launch))
        del note["rerun"]
        data = _json({**note, "at": time.time()})
        again = _json({**note, "at": time.time(), "rerun": True})
        self.files.write_many(
            {f"{one}/status.json": again if one in rerun else data for one in trial_ids}
        )

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

        The files of an earlier result are replaced now, and those without a successor deleted.
        Raises InputError if the disk is full.
        """
        texts = {
            "spec.json": _json(trial.model_dump(mode="json")),
            "metrics.json": _json(dict(metrics)),
        }
        paths = {
            path.relative_to(folder).as_posix(): path
            for path in (sorted(folder.rglob("*")) if folder.is_dir() else [])
            if path.is_file() and not path.name.startswith(".")
        }
        moved = {name: path for name, path in paths.items() if name not in (*texts, MARKER)}
        sums = {name: sha256(path.read_bytes()) for name, path in moved.items()}
        sums |= {name: sha256(text) for name, text in texts.items()}
        self.files.delete(f"{trial_id}/{MARKER}")
        for name, path in moved.items():
            self.files.put(f"{trial_id}/{name}", path)
        for name, text in texts.items():
            self.files.write(f"{trial_id}/{name}", text)
        sizes = self.files.sizes(trial_id)
        for name in sorted(set(sizes) - set(sums) - {"status.json"}):
            self.files.delete(f"{trial_id}/{name}")
        sizes = {name: size for name, size in sizes.items() if name in sums}
        note = {"metrics": dict(metrics), "notes": list(notes), "files": sizes, "sha256": sums}
        note |= {"about": dict(about or {})}
        self.files.write(f"{trial_id}/{MARKER}", _json({**note, CHECKSUM: sha256(_json(note))}))
        self.files.delete(f"{trial_id}/status.json")
        return Result(dict(metrics), notes, tuple(sizes), dict(about or {}), sums)

    def predictions(self, trial_id: str) -> Predictions | None:
        """The predicted masks of a trial; None if it has none. Raises ValueError for damage."""
        data = self.files.read(f"{trial_id}/{PREDICTIONS}")
        return None if data is None else read_predictions(data)

    def add_files(self, trial_id: str, files: Mapping[str, bytes]) -> None:
        """Add files to a finished trial, and to the list in its marker; its numbers stay.

        A file of the same name is replaced. Raises ValueError if the marker is damaged.
        """
        note = json_object(self.files.read(f"{trial_id}/{MARKER}") or b"")
        checked = note.pop(CHECKSUM, None) is not None
        read_result(_json(note))
        self.files.write_many({f"{trial_id}/{name}": data for name, data in files.items()})
        note["files"] |= {name: len(data) for name, data in files.items()}
        if checked:
            note["sha256"] |= {name: sha256(data) for name, data in files.items()}
            note[CHECKSUM] = sha256(_json(note))
        self.files.write(f"{trial_id}/{MARKER}", _json(note))

    def delete_trial(self, trial_id: str) -> None:
        """Delete all files of a trial, so that it counts as never run."""
        self.files.delete(trial_id)

    def _incomplete(
        self, trial_id: str, files: Mapping[str, int], sizes: Mapping[str, int] | None
    ) -> str:
        """The first file that is missing or has another size; empty if all are whole."""
        if sizes is not None:
            there = {name: sizes.get(f"{trial_id}/{name}") for name in files}
        elif self.folder is not None:
            place = self.folder / trial_id
            there = {name: _size(place / name) for name in files}
        else:
            there = dict(self.files.sizes(trial_id))
        return next((name for name, size in files.items() if there.get(name) != size), "")

    def _all_sizes(self) -> dict[str, int]:
        return self.files.sizes("")

    # -------------------------------------------------------------- jobs

    def job_folder(self, key: str) -> Path:
        """The folder that a job writes to: in the store, or else in `scratch`."""
        plain_path(key, f"store {self.shown_address}, job")
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

    def job_claim(self, key: str) -> bytes | None:
        """The claim on a job as it is written; it changes while its holder lives."""
        return self.files.read(f"jobs/{key}/claim")

    def job_owner(self, key: str) -> str:
        """The launch that has the claim on a job; empty if none has it."""
        return owner_of(self.files, f"jobs/{key}/claim")

    def record_job(self, key: str, record: JobRecord) -> None:
        self.files.write(f"jobs/{key}/record.json", _json(asdict(record)))

    def checkpoint_step(self, key: str) -> int:
        """The step from which a job's training would resume; 0 without a checkpoint."""
        names = self.files.sizes(f"jobs/{key}/checkpoints")
        return max((int(one[1]) for one in map(CHECKPOINT.fullmatch, names) if one), default=0)

    def job_records(self) -> dict[str, JobRecord]:
        """The cost of finished jobs, by job key; unreadable records are left out."""
        keys = self.files.folders("jobs")
        names = [f"jobs/{key}/record.json" for key in filter(is_plain_path, keys)]
        records = {}
        for name, data in self.files.read_many(names).items():
            with contextlib.suppress(ValueError):
                records[name.split("/")[1]] = read_job_record(data)
        return records

    # -------------------------------------------------------------- times of episodes

    def record_timing(self, key: str, timing: Timing) -> None:
        """Write a timing beside the results, under its hardware; it replaces an earlier one."""
        folder = re.sub(r"[^\w.]+", "-", timing.hardware).strip("-.")
        self.files.write(f"timings/{folder}/{key}.json", _json(asdict(timing)))

    def timings(self) -> dict[str, dict[str, Timing]]:
        """Hardware -> key -> timing; unreadable ones are left out."""
        found: dict[str, dict[str, Timing]] = {}
        for folder in filter(is_plain_path, self.files.folders("timings")):
            names = [f"timings/{folder}/{name}" for name in self.files.sizes(f"timings/{folder}")]
            for name, data in self.files.read_many(names).items():
                with contextlib.suppress(ValueError):
                    one = read_timing(data)
                    found.setdefault(one.hardware, {})[Path(name).stem] = one
        return found

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
        ids = filter(is_plain_path, self.files.folders("launches"))
        return [one for one in ids if held(self.files, f"launches/{one}/claim")]


def _status(data: bytes | OSError | None, damaged: str) -> TrialStatus:
    """The state of a trial without a result that counts; `damaged` says why it does not."""
    if data is None:
        return TrialStatus("pending", damaged)
    try:
        status = read_status(data)
    except ValueError as error:
        return TrialStatus("pending", damaged or f"its status.json {_sentence(error)}")
    if status.state == "finished":  # but its marker is missing or damaged
        return TrialStatus("pending", damaged or "its result is incomplete")
    if status.state == "pending" and damaged:
        return TrialStatus("pending", damaged, status.job, status.launch)
    return status


def _sentence(error: ValueError) -> str:
    """The reason for damage as the end of a sentence that names the file."""
    text = str(error)
    return text if text.startswith(("is ", "cannot ")) else f"is damaged: {text}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def marker_differs(data: bytes) -> bool | None:
    """Whether a marker was changed after it was written; None if it has no checksum."""
    note = json_object(data)
    written = note.pop(CHECKSUM, None)
    return None if written is None else sha256(_json(note)) != written


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
