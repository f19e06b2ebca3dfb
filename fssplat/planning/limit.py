"""How many slots finish a plan within a time limit, such as that of a batch queue?"""

import math
import re
from dataclasses import dataclass

from fssplat.common.errors import InputError
from fssplat.planning.packing import place_jobs
from fssplat.planning.plan import Plan
from fssplat.planning.plan_table import duration

LEAD_S = 300.0  # before its limit a launch stops, so that its jobs write checkpoints
UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0}
WITH_UNITS = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(d|h|min|m)")
OF_SLURM = re.compile(r"(?:(\d{1,4})-)?(\d{1,4}):(\d{2})(?::(\d{2}))?")


@dataclass(frozen=True)
class Need:
    """Slots that finish the pending jobs within `rounds` limits in a row."""

    slots: int
    rounds: int  # more than 1 if a job is longer than one limit
    ends_s: float  # when the last job ends


def parse_limit(text: str) -> float:
    """Seconds of 4h, 90m, 1.5d, 04:00:00 or 1-12:00:00, as SLURM writes them. Raises InputError."""
    units, clock = WITH_UNITS.fullmatch(text), OF_SLURM.fullmatch(text)
    seconds = 0.0
    if units:
        seconds = float(units[1]) * UNITS[units[2]]
    elif clock:
        days, first, second, third = (int(part or 0) for part in clock.groups())
        minutes = clock[4] is None and clock[1] is None  # SLURM reads 30:00 as minutes
        seconds = 60.0 * first + second if minutes else 3600.0 * first + 60.0 * second + third
        seconds += 86400.0 * days
    if seconds < 60:
        raise InputError(f"{text}: not a time limit. Give e.g. 4h, 90m or 1-12:00:00 (SLURM's).")
    return seconds


def lead_s(limit_s: float) -> float:
    """How long before its limit a launch stops."""
    return min(LEAD_S, limit_s / 3)


def need(plan: Plan, limit_s: float) -> Need:
    """The smallest number of slots that is enough; a slot is a GPU, or a worker without GPUs."""
    usable = limit_s - lead_s(limit_s)
    longest = max((item.seconds for item in plan.pending), default=0.0)
    rounds = max(1, math.ceil(longest / usable))
    most = sum(max(1, math.ceil(item.gpu)) for item in plan.pending)
    low = max((max(1, math.ceil(item.gpu)) for item in plan.pending), default=1)
    high = max(low, most)
    while low < high:
        middle = (low + high) // 2
        if _ends_s(plan, middle) <= rounds * usable:
            high = middle
        else:
            low = middle + 1
    return Need(low, rounds, _ends_s(plan, low))


def limit_line(plan: Plan, limit_s: float) -> str:
    """The need as a sentence."""
    if not plan.pending:
        return "Nothing is left to run, so no slot is needed."
    found = need(plan, limit_s)
    unit = "GPU" if any(item.gpu for item in plan.pending) else "worker"
    slots = f"{found.slots} {unit}{'s' if found.slots > 1 else ''}"
    if found.rounds == 1:
        return f"Within {duration(limit_s)}: {slots}; the last job ends after " + (
            f"{duration(found.ends_s)}."
        )
    longest = max(item.seconds for item in plan.pending)
    return (
        f"The longest job takes {duration(longest)}: the limit of {duration(limit_s)} cuts it, and "
        f"it goes on in the next. {slots} finish all jobs within {found.rounds} limits in a row."
    )


def _ends_s(plan: Plan, slots: int) -> float:
    placed = place_jobs(plan.pending, slots)
    return max((item.start_s + item.planned.seconds for item in placed), default=0.0)
