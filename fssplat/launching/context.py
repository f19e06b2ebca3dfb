"""What the parts of a running launch share: its store, its listeners, its limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fssplat.experiment.trial import Job
from fssplat.launching.stop_request import GRACE_S
from fssplat.planning.share import Share
from fssplat.results.notes import JobEnded, Note, TrialEnded
from fssplat.results.records import SETTLED
from fssplat.results.store import Store
from fssplat.worker.claimed_job import Work
from fssplat.worker.process import RETRIES

MAX_RESTARTS = 50  # of one job in one launch after its worker died, whatever its progress
# Error text: this worker finds no marker of the launch in its store.
UNSEEN = "does not see this launch"


@dataclass
class LaunchContext:
    """One launch while it runs."""

    store: Store
    launch: str  # its id
    on_note: Callable[[Note], None]
    say: Callable[[str], object] = lambda line: None  # prints a line for the user
    about: Mapping[str, Any] = field(default_factory=dict)  # saved beside each result
    images: Mapping[str, int] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    max_concurrent: int | None = None
    retries: int = RETRIES
    grace_s: float = GRACE_S
    share: Share | None = None  # set: one of several launches that were started together
    work: Work | None = None  # None: the engine


def mark_lost(job: Job, reason: str, context: LaunchContext) -> None:
    """Mark a job's unfinished trials as failed after its last worker died."""
    states = context.store.states(job.trial_ids)
    lost = [i for i in job.trial_ids if states[i].state not in (*SETTLED, "failed")]
    rerun = {i for i in lost if states[i].rerun}
    context.store.mark(lost, "failed", reason, job.key, context.launch, rerun)
    for trial_id in lost:
        context.on_note(TrialEnded(job.key, trial_id, "failed", reason))
    context.on_note(JobEnded(job.key, "failed", reason))
