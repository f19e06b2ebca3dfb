"""Maintenance of a store: reset failed trials, and list files that can be removed."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fssplat.engine.predict import FILES
from fssplat.experiment.trial import Job
from fssplat.results.records import SETTLED, TrialStatus
from fssplat.results.store import Store

KEPT = (*FILES, "steps.parquet", "record.json", "claim.lock")  # of a finished job
STALE_S = 3600.0  # the writer of an unfinished file this old has died


def reset_failed(jobs: Sequence[Job], states: Mapping[str, TrialStatus], store: Store) -> int:
    """Mark failed and diverged trials as pending again. Returns how many there were.

    The files of a diverged training are deleted: it would diverge again from its checkpoint.
    """
    chosen = [i for i, status in states.items() if status.state in ("failed", "diverged")]
    for job in jobs:
        if any(states[i].state == "diverged" for i in job.trial_ids):
            for name in store.files.sizes(f"jobs/{job.key}"):
                if name not in ("claim", "claim.lock"):
                    store.files.delete(f"jobs/{job.key}/{name}")
    for trial_id in chosen:
        store.delete_trial(trial_id)
    return len(chosen)


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
