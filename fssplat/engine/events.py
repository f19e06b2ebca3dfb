"""Events that the engine emits while it trains and scores; its caller decides their use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class TrainingStarted:
    job_key: str
    steps: int
    first_step: int  # above 0 after a resume
    learnable: int  # parameters


@dataclass(frozen=True)
class StepDone:
    step: int  # counts from 1
    losses: Mapping[str, float]  # unweighted, by name, and `total` as minimised
    lr: float


@dataclass(frozen=True)
class WeightsScored:
    """The weights after a step were scored, because the protocol selects weights by their score."""

    step: int
    score: float  # mIoU, 0 to 1


@dataclass(frozen=True)
class TrainingDone:
    seconds: float
    peak_memory: int  # bytes on the device; resident size of the process on CPU
    checkpoint: Path


@dataclass(frozen=True)
class EpisodesScored:
    """Progress within one evaluation."""

    trial_id: str
    done: int
    total: int


@dataclass(frozen=True)
class TrialScored:
    trial_id: str
    metrics: Mapping[str, float]
    folder: Path  # episodes.parquet, metrics.json, panels/*.png
    notes: tuple[str, ...] = field(default=())  # e.g. classes left out, by name


@dataclass(frozen=True)
class TrialSkipped:
    """The fold has no class with enough images, so there are no episodes to score."""

    trial_id: str
    reason: str


Event = (
    TrainingStarted
    | StepDone
    | WeightsScored
    | TrainingDone
    | EpisodesScored
    | TrialScored
    | TrialSkipped
)
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An `Emit` for callers that do not use events."""
