"""A search for settings as plain records: its points, their scores, and what matters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Setting = float | int | str | bool | None


@dataclass(frozen=True)
class StudyPoint:
    """One point that has ended."""

    number: int
    state: str  # complete, pruned, diverged, failed
    settings: Mapping[str, Setting]  # by dotted name; settings that it does not use are absent
    values: Mapping[str, float]  # by objective; empty unless it is complete
    parts: Mapping[str, float]  # mIoU, 0 to 1, of each of its trainings, at its last milestone
    is_default: bool = False  # the values that the file gives without a search
    reason: str = ""  # why it has no value


@dataclass(frozen=True)
class StudyParameter:
    """A setting that the search changes."""

    name: str  # dotted
    kind: Literal["number", "logarithm", "choice"]
    choices: Sequence[str] = ()  # as texts; empty for numbers


@dataclass(frozen=True)
class StudyRecord:
    """One study."""

    name: str
    claim: str
    command: str  # the command line that continues it
    method: str
    scored_on: str  # which classes, in words
    on_novel_classes: bool
    objectives: Sequence[str]  # that are maximised; the first is miou
    parameters: Sequence[StudyParameter]
    points: Sequence[StudyPoint]  # ended ones, by number
    wanted: int  # points that the file asks for
    importance: Mapping[str, float] = field(default_factory=dict)  # by parameter, sum 1
    facts: Mapping[str, str] = field(default_factory=dict)  # database, sampler and so on

    @property
    def complete(self) -> list[StudyPoint]:
        return [one for one in self.points if one.state == "complete"]

    @property
    def best(self) -> StudyPoint | None:
        """The complete point with the highest mIoU, the earliest of equal ones."""
        return max(self.complete, key=lambda one: (one.values["miou"], -one.number), default=None)

    @property
    def default(self) -> StudyPoint | None:
        """The complete point with the file's own values; None if there is none."""
        return next((one for one in self.complete if one.is_default), None)
