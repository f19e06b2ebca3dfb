"""Run jobs of another launch: python -m tests.fakes.processes.second_launch STORE."""

import sys
import time

from fssplat.worker.claimed_job import perform
from fssplat.worker.job_task import JobTask
from tests.fakes.engines import RecordedNotes, score_after_pause
from tests.fakes.trials import job, trial


def main(store: str) -> None:
    """Run the jobs of three seeds until each has its result."""
    unfinished = [job(trial(seed)) for seed in range(3)]
    while unfinished:
        ends = [
            perform(JobTask(one, store, "other"), RecordedNotes(), score_after_pause)
            for one in unfinished
        ]
        unfinished = [one for one, end in zip(unfinished, ends, strict=True) if end.state == "busy"]
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1])
