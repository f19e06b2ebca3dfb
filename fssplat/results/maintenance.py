"""Maintenance of a store: reset failed trials, and list files that can be removed."""

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.engine.predicting.model_files import FILES
from fssplat.experiment.trial import Job
from fssplat.results.job_folder import LOG_FILE, TRAINING_FILE
from fssplat.results.launch_records import stop_command
from fssplat.results.reading import content
from fssplat.results.records import SETTLED, TrialStatus
from fssplat.results.source_code import weights_are_stale
from fssplat.results.store import MARKER, Store, marker_differs, sha256

# Files of a finished job that are kept.
KEPT = (
    *FILES, "steps.parquet", TRAINING_FILE, "record.json", "source.json", LOG_FILE, "claim.lock",
)  # fmt: skip
UNTOUCHED = ("claim", "claim.lock", LOG_FILE)  # if a job starts from the beginning
RERUN = "runs again; its result before is kept until then"
STALE_S = 3600.0  # the writer of an unfinished file this old has died


def reset_failed(jobs: Sequence[Job], states: Mapping[str, TrialStatus], store: Store) -> int:
    """Mark failed and diverged trials as pending again. Returns how many there were.

    The files of a diverged training are deleted, but for its log: it would diverge again from its
    checkpoint.
    """
    chosen = [i for i, status in states.items() if status.state in ("failed", "diverged")]
    for job in jobs:
        if any(states[i].state == "diverged" for i in job.trial_ids):
            for name in store.files.sizes(f"jobs/{job.key}"):
                if name not in UNTOUCHED:
                    store.files.delete(f"jobs/{job.key}/{name}")
    for trial_id in chosen:
        if states[trial_id].rerun:
            store.mark([trial_id], "pending", RERUN, rerun=[trial_id])
        else:
            store.delete_trial(trial_id)
    return len(chosen)


def damaged_files(trial_ids: Iterable[str], store: Store) -> tuple[dict[str, str], int]:
    """Compare the files of finished trials with the checksums written at their end.

    Returns what is wrong, by file, and how many trials are older than the checksums.
    """
    wrong, unchecked = {}, 0
    for trial_id, result in store.results(trial_ids).items():
        names = [MARKER, *result.checksums]
        found = store.files.read_many([f"{trial_id}/{name}" for name in names])
        marker = found.pop(f"{trial_id}/{MARKER}", b"")
        try:
            differs = marker_differs(content(marker))
        except ValueError as error:
            wrong[f"{trial_id}/{MARKER}"] = str(error)
            continue
        if differs:
            wrong[f"{trial_id}/{MARKER}"] = "was changed after it was written"
        unchecked += differs is None
        for name, checksum in result.checksums.items():
            data = found.get(f"{trial_id}/{name}")
            if data is None:
                wrong[f"{trial_id}/{name}"] = "is missing"
            elif isinstance(data, OSError):
                wrong[f"{trial_id}/{name}"] = f"cannot be read ({data.strerror or data})"
            elif sha256(data) != checksum:
                wrong[f"{trial_id}/{name}"] = "was changed after it was written"
    return wrong, unchecked


def request_rerun(jobs: Sequence[Job], chosen: Container[str], store: Store) -> None:
    """Mark finished trials to be run again; their results are kept until then.

    Half-finished scores of their jobs are deleted; the weights too if other source made them.
    Raises InputError, before any change, if another launch runs one of the jobs.
    """
    affected = [job for job in jobs if any(one in chosen for one in job.trial_ids)]
    for job in affected:
        if store.job_held(job.key):
            stop = stop_command(store.job_owner(job.key), store.shown_address)
            raise InputError(f"--rerun: a launch runs {job.title}. Stop it with `{stop}`.")
    for job in affected:
        stale = weights_are_stale(store, job)
        for name in store.files.sizes(f"jobs/{job.key}"):
            if name.startswith("trials/") or (stale and name not in UNTOUCHED):
                store.files.delete(f"jobs/{job.key}/{name}")
        again = [one for one in job.trial_ids if one in chosen]
        store.mark(again, "pending", RERUN, job.key, rerun=again)


def removable_files(
    jobs: Sequence[Job], states: Mapping[str, TrialStatus], store: Store, weights: bool = False
) -> dict[str, int]:
    """Files that no result and no resume needs, with their sizes in bytes."""
    found = {}
    for job in jobs:
        settled = all(states[i].state in SETTLED for i in job.trial_ids)
        if not settled or store.job_held(job.key):
            continue
        for name, size in store.files.sizes(f"jobs/{job.key}").items():
            kept = name in KEPT and not (weights and name in FILES)
            if not kept:
                found[f"jobs/{job.key}/{name}"] = size
    return {**found, **_unfinished_files(store)}


def _unfinished_files(store: Store) -> dict[str, int]:
    """Temporary files whose writer died: hidden, and untouched for an hour."""
    if store.folder is None:
        return {}
    oldest = time.time() - STALE_S
    return {
        path.relative_to(store.folder).as_posix(): path.stat().st_size
        for path in store.folder.rglob(".*")
        if path.is_file() and _stale(path, oldest)
    }


def _stale(path: Path, oldest: float) -> bool:
    return path.stat().st_mtime < oldest and (".tmp" in path.name)
