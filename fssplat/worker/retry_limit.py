"""Limit how often a job may lose its worker without progress.

A job that progresses between losses may lose any number of workers: spot machines must not fail a
long training that resumes each time. A job that kills every worker at the same place fails after a
few, so that it does not occupy a cluster for ever.
"""

import json
from pathlib import Path
from typing import Any

from fssplat.common.json_files import is_count, json_object
from fssplat.experiment.schema import digest
from fssplat.results.job_folder import LOG_FILE, TRAINING_FILE
from fssplat.results.store import Store

# In the job's folder; they are no progress.
OWN_FILES = ("lives.json", "error.txt", "source.json", LOG_FILE, TRAINING_FILE)


def record_attempt(store: Store, key: str, launch: str, folder: Path, trials: int) -> int:
    """Count consecutive worker deaths without progress and record this attempt.

    Progress means that `folder` has other files than before, such as a new checkpoint, or that
    fewer `trials` are unfinished. This attempt counts as a death until `clear_attempts`.
    """
    place = digest(_names(folder), trials)
    before = _read(store, key)
    same = before.get("launch") == launch and before.get("place") == place
    count = before["deaths"] if same else 0
    record = {"launch": launch, "place": place, "deaths": count + 1}
    store.files.write(_name(key), json.dumps(record).encode())
    return count


def clear_attempts(store: Store, key: str) -> None:
    """Forget the attempts: this one ended without losing its worker."""
    store.files.delete(_name(key))


def _names(folder: Path) -> list[str]:
    """The job's files so far, without half-written ones and OWN_FILES."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*"))
    return sorted(name for name in found if name not in OWN_FILES)


def _name(key: str) -> str:
    return f"jobs/{key}/lives.json"


def _read(store: Store, key: str) -> dict[str, Any]:
    """The record of earlier attempts; empty if there is none or it cannot be read."""
    data = store.files.read_many([_name(key)]).get(_name(key))
    try:
        record = json_object(data) if isinstance(data, bytes) else {}
    except ValueError:
        return {}
    return record if is_count(record.get("deaths")) else {}
