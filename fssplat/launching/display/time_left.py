"""The time that is left: the plan's prediction, corrected by the speed that is measured.

The number that is shown counts down, and follows a lower estimate within seconds. A higher estimate
only stops it, unless there is a reason: a job started again, or jobs take much longer than before.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fssplat.planning.packing import PlannedJob
from fssplat.results.notes import PHASES

LEAST_MEASURED_S = 2.0  # of work, before a plan that is a guess is corrected
PRIOR_S = 20.0  # a prediction from finished jobs counts as this much measured work
OTHER_S = 2.0  # the speed of both phases together counts as this much measured work of each
FOLLOW_S = 5.0  # in which the shown time gets close to a lower estimate
MUCH_LONGER = 1.25  # times the shown time: then it rises
LONGER_FOR_S = 20.0  # after this time


@dataclass
class _Work:
    """One job: its predicted seconds per phase, and what is done of them."""

    predicted: dict[str, float]
    done: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    started: float | None = None
    first: float | None = None  # when the first phase began
    changed: float = 0.0  # when `done` was last reported
    ended: bool = False

    def left(self, ratios: dict[str, float]) -> float:
        return sum((self.predicted[p] - self.done[p]) * ratios[p] for p in PHASES)


class TimeLeft:
    """Estimates when all jobs will have ended."""

    def __init__(
        self, jobs: Sequence[PlannedJob], devices: int, clock: Callable[[], float]
    ) -> None:
        self._devices, self._clock = devices, clock
        self._work = {item.job.key: _Work(_by_phase(item)) for item in jobs}
        self._measured = all(item.measured for item in jobs)
        self._spent = dict.fromkeys(PHASES, 0.0)  # measured seconds of the work that is done,
        self._worth = dict.fromkeys(PHASES, 0.0)  # and the seconds predicted for it
        self._starts: list[float] = []  # seconds between a job's start and its first phase
        self._shown: float | None = None
        self._shown_at = clock()
        self._may_rise, self._longer_since = False, 0.0

    def start(self, key: str) -> None:
        """The job has started, or has started again."""
        work = self._work.get(key)
        if work is not None:
            self._may_rise = self._may_rise or work.started is not None
            work.started, work.first, work.ended = self._clock(), None, False

    def begin(self, key: str, phase: str, share: float) -> None:
        """A phase of the job has begun, and this share of it is done: what follows is measured."""
        work = self._work.get(key)
        if work is None:
            return
        now = self._clock()
        if work.first is None:
            work.first = now
            self._starts.append(now - (now if work.started is None else work.started))
        elif phase == "scoring":
            self._count(work, "training", work.predicted["training"])
        if phase == "scoring":
            work.done["training"] = work.predicted["training"]
        work.done[phase], work.changed = share * work.predicted[phase], now

    def report(self, key: str, phase: str, share: float) -> None:
        """This share of the phase is done."""
        work = self._work.get(key)
        if work is not None:
            self._count(work, phase, share * work.predicted[phase])

    def end(self, key: str, finished: bool) -> None:
        """The job has ended; `finished` if all its work is done."""
        work = self._work.get(key)
        if work is None or work.ended:
            return
        work.ended = True
        since = work.started if work.first is None else work.changed
        left = {phase: work.predicted[phase] - work.done[phase] for phase in PHASES}
        if finished and since is not None and sum(left.values()) > 0:
            seconds = self._clock() - since
            for phase in PHASES:
                self._spent[phase] += seconds * left[phase] / sum(left.values())
                self._worth[phase] += left[phase]

    def _count(self, work: _Work, phase: str, done: float) -> None:
        """Count the work of a phase since the last report as measured."""
        now = self._clock()
        if done > work.done[phase]:
            self._spent[phase] += now - work.changed
            self._worth[phase] += done - work.done[phase]
            work.done[phase], work.changed = done, now

    def estimate(self) -> float | None:
        """Seconds, as far as measured; None if nothing is known yet."""
        if not self._measured and sum(self._spent.values()) < LEAST_MEASURED_S:
            return None
        ratios, now = self._ratios(), self._clock()
        start_s = sum(self._starts) / len(self._starts) if self._starts else 0.0
        busy, waiting = [], []
        for work in self._work.values():
            if work.ended:
                continue
            if work.started is None:
                waiting.append(start_s + work.left(ratios))
            elif work.first is None:
                busy.append(max(0.0, start_s - (now - work.started)) + work.left(ratios))
            else:
                busy.append(max(0.0, work.left(ratios) - (now - work.changed)))
        return _makespan(busy, waiting, self._devices)

    def shown(self) -> tuple[float | None, str]:
        """Seconds to show, and why they are more than before; both empty if nothing is known."""
        estimate, now = self.estimate(), self._clock()
        passed, self._shown_at = now - self._shown_at, now
        if estimate is None or self._shown is None or self._may_rise:
            reason = "a job started again" if self._rises(estimate) else ""
            self._shown, self._may_rise = estimate, False
            self._longer_since = now
            return estimate, reason
        before, counted = self._shown, max(0.0, self._shown - passed)
        if estimate <= counted:
            self._shown = counted - (counted - estimate) * min(1.0, passed / FOLLOW_S)
        else:
            self._shown = min(before, estimate)
        if estimate <= MUCH_LONGER * self._shown + FOLLOW_S:
            self._longer_since = now
        elif now - self._longer_since >= LONGER_FOR_S:
            self._shown, self._longer_since = estimate, now
            return estimate, "jobs take longer than before"
        return self._shown, ""

    def _rises(self, estimate: float | None) -> bool:
        return estimate is not None and self._shown is not None and estimate > self._shown

    def _ratios(self) -> dict[str, float]:
        """Measured over predicted seconds of each phase; of the other one until it is measured."""
        prior = PRIOR_S if self._measured else 0.0
        spent, worth = (sum(values.values()) + prior for values in (self._spent, self._worth))
        both = spent / worth if worth > 0 else 1.0
        return {
            phase: (self._spent[phase] + OTHER_S * both) / (self._worth[phase] + OTHER_S)
            for phase in PHASES
        }


def _by_phase(item: PlannedJob) -> dict[str, float]:
    training = item.training_share * (1 - item.done)
    scoring = 1 - item.training_share
    part = training / (training + scoring) if training + scoring > 0 else 0.0
    return {"training": item.seconds * part, "scoring": item.seconds * (1 - part)}


def _makespan(busy: Sequence[float], waiting: Sequence[float], devices: int) -> float:
    """Seconds until the last job ends, if each starts on the device that is free first."""
    free = [*busy, *[0.0] * (devices - len(busy))] or [0.0]
    heapq.heapify(free)
    for seconds in waiting:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)
