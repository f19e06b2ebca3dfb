"""A search's points: how they ended, their table, and the best one as an experiment file."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fssplat.common.passwords import hidden_in
from fssplat.common.printing import command_line, counted
from fssplat.common.whole_files import write_bytes, write_whole
from fssplat.search.space import Point, Search, with_point
from fssplat.search.study import objectives, point_of

REMARK = 30  # letters of a remark on a point
Column = tuple[str, list[str]]  # heading and cells
SHOWN = 15  # points listed in the terminal; trials.csv has all
SCORED_ON = {
    "base-val": "base classes in images that training never sees",
    "novel-best": "the NOVEL classes themselves, as several papers choose; not a few-shot result",
}


@dataclass(frozen=True)
class EndedPoint:
    """A point that has ended."""

    number: int
    state: str  # complete, pruned, diverged, failed
    point: Point
    values: dict[str, float]  # by objective; empty unless the point is complete
    scores: dict[float, dict[str, float]]  # share of the training -> mIoU and its parts
    steps: int  # optimiser steps, the sum over its trainings
    reason: str
    origin: str  # defaults, warm start, or empty for a point of the sampler
    started: datetime | None
    ended: datetime | None


def ended_point(search: Search, trial: FrozenTrial) -> EndedPoint | None:
    """The ended point of an Optuna trial; returns None if it runs, waits, or was queued again."""
    attrs = trial.user_attrs
    if trial.state is TrialState.COMPLETE:
        state = "complete"
    elif "diverged" in attrs:
        state = "diverged"
    elif trial.state is TrialState.PRUNED:
        state = "pruned"
    elif trial.state is TrialState.FAIL and "failed" in attrs:
        state = "failed"
    else:
        return None
    names = objectives(search.spec)
    values = dict(zip(names, trial.values or (), strict=False))
    scores, steps = {}, 0
    for index in range(1, len(search.spec.scored_shares) + 1):
        facts = attrs.get(f"rung{index}")
        if facts is not None:
            parts = facts["parts"]
            scores[facts["share"]] = {"miou": sum(parts.values()) / len(parts), **parts}
            steps = facts["steps"]
    return EndedPoint(
        number=trial.number,
        state=state,
        point=point_of(search, trial.params),
        values=values if state == "complete" else {},
        scores=scores,
        steps=steps,
        reason=str(attrs.get("failed") or attrs.get("diverged") or _pruned_at(state, scores)),
        origin=str(attrs.get("origin", "")),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def _pruned_at(state: str, scores: dict[float, dict[str, float]]) -> str:
    return f"stopped at {max(scores):.0%}" if state == "pruned" and scores else ""


def ended_points(search: Search, study: Study) -> list[EndedPoint]:
    """All ended points, by number."""
    found = (ended_point(search, trial) for trial in study.get_trials(deepcopy=False))
    return [one for one in found if one is not None]


def best_point(points: Sequence[EndedPoint]) -> EndedPoint | None:
    """The complete point with the highest mIoU, the earliest of equal ones; returns None if
    no point is complete."""
    complete = [one for one in points if one.state == "complete"]
    return max(complete, key=lambda one: (one.values["miou"], -one.number), default=None)


def pareto_front(points: Sequence[EndedPoint]) -> list[EndedPoint]:
    """The complete points that no other point dominates, best mIoU first."""
    complete = [one for one in points if one.state == "complete"]
    kept = [one for one in complete if not any(_dominates(other, one) for other in complete)]
    return sorted(kept, key=lambda one: -one.values["miou"])


def _dominates(one: EndedPoint, other: EndedPoint) -> bool:
    pairs = [(one.values[name], other.values[name]) for name in other.values]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


# ------------------------------------------------------------------ for the terminal


def point_line(one: EndedPoint, best: EndedPoint | None) -> str:
    """The line to print when a point ends."""
    settings = ", ".join(f"{name} {short_text(value)}" for name, value in one.point.items())
    known = _last_values(one)
    score = f"mIoU {100 * known['miou']:.2f}" if "miou" in known else "no score"
    record = f" (best {100 * best.values['miou']:.2f}, point {best.number})" if best else ""
    why = f": {one.reason}" if one.reason else ""
    return f"point {one.number} {one.state}{why}, {score}{record}  {settings}"


def _last_values(point: EndedPoint) -> dict[str, float]:
    """The values of a complete point, else its scores at its last milestone; may be empty."""
    return point.values or (point.scores[max(point.scores)] if point.scores else {})


def points_table(search: Search, points: Sequence[EndedPoint], width: int) -> RenderableType:
    """The best points, and how many points ended in each state.

    Settings for which `width` columns have no room are named below the table.
    """
    counts: dict[str, int] = {}
    for one in points:
        counts[one.state] = counts.get(one.state, 0) + 1
    states = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
    steps = sum(one.steps for one in points)
    head = [
        f"{search.experiment.name}: {counted(len(points), 'point')} ({states}), "
        f"{counted(steps, 'training step')}.",
        f"mIoU in % on {SCORED_ON[search.spec.selection]}.",
    ]
    ranked = sorted(points, key=_rank)[:SHOWN]
    names = objectives(search.spec)
    columns = [("point", [str(one.number) for one in ranked])]
    columns += [(name, [_score(name, _last_values(one)) for one in ranked]) for name in names]
    settings = [
        (short, [short_text(one.point[name]) if name in one.point else "-" for one in ranked])
        for short, name in zip(short_names(list(search.space)), search.space, strict=True)
    ]
    remarks = ("", [_remark(one) for one in ranked])
    fit = settings
    while fit and _width([*columns, *fit, remarks]) > width:
        fit = fit[:-1]
    tail = []
    if len(fit) < len(settings):
        out = ", ".join(name for name, _ in settings[len(fit) :])
        tail.append(f"No room for {out}: trials.csv has all settings.")
    if len(points) > SHOWN:
        tail.append(f"... and {len(points) - SHOWN} more in trials.csv.")
    return Group(*map(Text, head), _table([*columns, *fit, remarks], names), *map(Text, tail))


def _table(columns: Sequence[Column], numbers: Sequence[str]) -> Table:
    """A table of these columns; the point and the columns named in `numbers` end at the right."""
    table = Table(box=None, pad_edge=False)
    for heading, _ in columns:
        table.add_column(heading, justify="right" if heading in ("point", *numbers) else "left")
    for cells in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*cells)
    return table


def _remark(one: EndedPoint) -> str:
    return ("the default" if one.origin == "defaults" else one.reason or one.origin)[:REMARK]


def _width(columns: Sequence[Column]) -> int:
    """Columns of the terminal that a table takes, with two between its own."""
    return sum(max(map(len, [heading, *cells])) + 2 for heading, cells in columns) - 2


def short_names(names: list[str]) -> list[str]:
    """The last part of each dotted name, or the whole name if another one ends like it."""
    last = [name.rpartition(".")[2] for name in names]
    return [short if last.count(short) == 1 else n for short, n in zip(last, names, strict=True)]


def _rank(one: EndedPoint) -> tuple[int, float, int]:
    reached = max(one.scores, default=0.0)
    value = one.values.get("miou", one.scores[reached]["miou"] if one.scores else 0.0)
    return (0 if one.state == "complete" else 1, -(value + reached * (not one.values)), one.number)


def _score(name: str, known: dict[str, float]) -> str:
    if name not in known:
        return "-"
    return f"{100 * known[name]:.2f}" if name == "miou" else f"{known[name]:.1f}"


def short_text(value: Any) -> str:
    """The value of a setting; of a float three digits, as 0.025, 2.5e-3 or 1.2e5."""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 0.01 <= abs(value) < 1000 or not math.isfinite(value):
        return f"{value:.3g}"
    digits, power = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


# ------------------------------------------------------------------ files


def write_csv(search: Search, points: Sequence[EndedPoint], path: Path) -> None:
    """Write all points: settings, state, values, and mIoU at each milestone."""
    shares = search.spec.scored_shares
    names = objectives(search.spec)
    head = ["point", "state", "origin", *names, "steps", *(f"miou_at_{s:g}" for s in shares)]

    def write(to: Path) -> None:
        with to.open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow([*head, *search.space, "reason"])
            for one in points:
                rows.writerow(
                    [
                        one.number,
                        one.state,
                        one.origin,
                        *(one.values.get(name, "") for name in names),
                        one.steps,
                        *(one.scores.get(share, {}).get("miou", "") for share in shares),
                        *(json.dumps(one.point[n]) if n in one.point else "" for n in search.space),
                        one.reason,
                    ]
                )

    write_whole(path, write)


def write_best(search: Search, one: EndedPoint, study: str, count: int, path: Path) -> None:
    """Write the experiment with the point's values in its method, for `fssplat launch`."""
    value = f"{100 * one.values['miou']:.2f}"
    spec = search.spec
    # The roots of the data sets are as typed: relative ones begin at the folder of the search.
    command = f"{command_line(['cd', Path.cwd()])} && {command_line(['fssplat', 'launch', path])}"
    origin = ", the default" if one.origin == "defaults" else ""
    head = (
        f"# Point {one.number}{origin} of study {study}: the best of {count} by mIoU ({value} %)\n"
        f"# on {SCORED_ON[spec.selection]}.\n"
        f"# {command}\n"
    )
    body = yaml.safe_dump(_as_file(search, one), sort_keys=False, allow_unicode=True)
    write_bytes(path, (head + body).encode())


def _as_file(search: Search, one: EndedPoint) -> dict[str, Any]:
    """The experiment's keys; the label of the tuned method says which classes it was tuned on."""
    tuned = with_point(search.experiment, one.point)
    suffix = "tuned" if search.spec.selection == "base-val" else "tuned-novel-best"
    values = hidden_in(tuned.model_dump(mode="json", exclude_defaults=True))
    entry = tuned.grid.method[0].model_dump(mode="json", exclude_defaults=True)
    entry["variant"] = f"{entry['variant']}-{suffix}" if entry.get("variant") else suffix
    grid = {**values["grid"], "method": [entry]}
    claim = f"tuned by {search.spec.selection}, point {one.number}"
    return {
        **{k: v for k, v in values.items() if k not in ("name", "claim", "grid", "search")},
        "name": f"{search.experiment.name}-{suffix}",
        "claim": claim,
        "grid": grid,
    }
