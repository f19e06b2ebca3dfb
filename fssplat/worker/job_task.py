"""A job of a launch as it is sent to a worker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fssplat.experiment.trial import Job
from fssplat.worker.process import RETRIES


@dataclass(frozen=True)
class JobTask:
    """All that a worker gets to run a job."""

    job: Job
    store: str  # its address
    launch: str  # its id
    cpu: float = 1.0  # cores
    gpu: float = 0.0  # share of a GPU
    images: Mapping[str, int] = field(default_factory=dict)  # training images by data set
    fingerprints: Mapping[str, str] = field(default_factory=dict)  # of the data at planning time
    about: Mapping[str, Any] = field(default_factory=dict)  # saved beside each result
    retries: int = RETRIES
    lost: str = ""  # why the last attempt's worker ended, if that is known
