"""Run jobs on a full disk: python -m tests.fakes.processes.full_disk FOLDER, a small tmpfs.

Prints, for each number of free kilobytes, how the job ended without space and with space again.
"""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from fssplat.results.store import Store
from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from tests.fakes.engines import RecordedNotes, train_small_network
from tests.fakes.trials import job, trial

FREE_KB = (0, 4, 8, 16, 32, 48, 64, 96, 128)


def main(folder: Path) -> None:
    whole = JobTask(job(trial(steps=12)), str(folder / "whole"), "l1")
    assert perform(whole, RecordedNotes(), train_small_network).state == "finished"
    expected = load_file(next((folder / "whole").glob("jobs/*/weights.safetensors")))
    for free in FREE_KB:
        store = Store.open(str(folder / "store"))
        task = replace(whole, store=store.address)
        _fill(folder / "filler", leave=free * 1024)
        notes = RecordedNotes()
        short = perform(task, notes, train_small_network)
        state = store.states(task.job.trial_ids)[task.job.trial_ids[0]].state
        (folder / "filler").unlink()
        again = perform(task, RecordedNotes(), train_small_network)
        weights = load_file(next((folder / "store").glob("jobs/*/weights.safetensors")))
        line = {
            "free": free,
            "state": short.state,
            "reason": short.reason,
            "stored": state,
            "again": again.state,
            "same": all((weights[name] == expected[name]).all().item() for name in expected),
        }
        print(json.dumps(line), flush=True)
        shutil.rmtree(folder / "store")


def _fill(path: Path, leave: int) -> None:
    """Fill the disk but for `leave` bytes, rounded to the disk's block size."""
    room = os.statvfs(path.parent)
    size = room.f_bavail * room.f_frsize - leave
    with path.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
