"""A plan as a table for the terminal, and as JSON."""

import re
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fssplat.common.errors import InputError
from fssplat.common.printing import counted
from fssplat.experiment.datasets import known_dataset
from fssplat.experiment.rules import dataset_names
from fssplat.experiment.schema import DatasetSpec, ExperimentSpec
from fssplat.experiment.trial import Job, Trial
from fssplat.planning.packing import Placement
from fssplat.planning.plan import Plan

PRICE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(?:/h)?")
SHOWN = 20  # jobs listed in the terminal; the JSON has all


def summary(plan: Plan) -> dict[str, Any]:
    """The plan's figures as JSON values."""
    states = [status.state for status in plan.states.values()]
    return {
        "experiment": plan.experiment.name,
        "trials": len(plan.states),
        "trials_by_state": {state: states.count(state) for state in sorted(set(states))},
        "jobs": len(plan.jobs),
        "trainings": len(plan.trained),
        "trainings_saved_by_sharing": plan.saved_trainings,
        "sharing_methods": plan.sharing,
        "pending_jobs": len(plan.pending),
        "devices": plan.devices,
        "work_hours": plan.work_s / 3600,
        "makespan_hours": plan.makespan_s / 3600,
        "lower_bound_hours": plan.lower_bound_s / 3600,
        "utilisation": plan.utilisation,
    }


def as_json(plan: Plan) -> dict[str, Any]:
    """The figures, and every pending job with its device and start."""
    rows = [
        {
            "job": item.planned.job.key,
            "title": item.planned.job.title,
            "trials": list(item.planned.job.trial_ids),
            "hours": item.planned.seconds / 3600,
            "measured": item.planned.measured,
            "gpu": item.planned.gpu,
            "device": item.device,
            "start_hours": item.start_s / 3600,
        }
        for item in plan.placements
    ]
    return {**summary(plan), "order": rows}


def plan_table(plan: Plan) -> RenderableType:
    """Totals, then the first jobs in the order in which they start."""
    lines = [_totals(plan), *recipe_lines(plan.experiment)]
    if not plan.pending:
        return Text("\n".join(lines))
    unit = "GPU" if any(item.gpu for item in plan.pending) else "worker"
    if plan.saved_trainings:
        lines.append(_saved(plan))
    lines.append(_times(plan, unit))
    rows = Table(box=None, pad_edge=False)
    for heading in ("start", "takes", unit, "job", "trials that share it"):
        rows.add_column(heading, justify="right" if heading in ("start", "takes") else "left")
    for item in plan.placements[:SHOWN]:
        rows.add_row(*_row(item))
    rest = len(plan.pending) - SHOWN
    tail = [Text(f"... and {rest} more jobs; --json lists all.")] if rest > 0 else []
    return Group(*(Text(line) for line in lines), rows, *tail)


def parse_price(text: str) -> float:
    """What one GPU costs in an hour, from 1.20/h or 1.20. Raises InputError."""
    found = PRICE.fullmatch(text)
    if found is None:
        raise InputError(f"--price {text}: not a price for an hour. Give e.g. --price 1.20/h")
    return float(found[1])


def price_line(plan: Plan, price: float) -> str:
    """What the pending jobs cost if one GPU, or one worker without GPUs, costs `price` an hour."""
    unit = "GPU" if any(item.gpu for item in plan.pending) else "worker"
    guess = "" if all(item.measured for item in plan.pending) else ", a guess until jobs finish"
    return (
        f"{duration(plan.work_s)} of {unit} time at {price:.2f} an hour: "
        f"{plan.work_s / 3600 * price:.2f}{guess}."
    )


def recipe_lines(experiment: ExperimentSpec) -> list[str]:
    """Which recipes train on each data set of your own, and why."""
    lines = []
    trained = [experiment.train_on] if experiment.train_on else dataset_names(experiment)
    for name in trained:
        spec = experiment.datasets.get(name, DatasetSpec(name=name))
        facts = known_dataset(name, spec.root, experiment.name, experiment.datasets)
        if facts.recipe:
            lines.append(
                f"{name}: methods use their recipes for {facts.recipe}, by the size of its images "
                f"and their number ({facts.images} for training). `training` changes them."
            )
    return lines


def _totals(plan: Plan) -> str:
    done = len(plan.states) - sum(len(item.job.trials) for item in plan.pending)
    return (
        f"{plan.experiment.name}: {counted(len(plan.states), 'trial')} in "
        f"{counted(len(plan.jobs), 'job')} ({counted(plan.saved_trainings, 'training')} saved by "
        f"sharing); {counted(done, 'trial')} done, {counted(len(plan.pending), 'job')} left."
    )


def _saved(plan: Plan) -> str:
    unshared = len(plan.trained) + plan.saved_trainings
    return (
        f"{counted(len(plan.trained), 'training')} for {counted(unshared, 'trial')}, "
        f"{plan.saved_trainings / unshared:.0%} fewer; shared by the trials of "
        f"{', '.join(plan.sharing)}."
    )


def _times(plan: Plan, unit: str) -> str:
    guess = "" if all(item.measured for item in plan.pending) else " (a guess until jobs finish)"
    return (
        f"About {duration(plan.work_s)} of {unit} time{guess}; {duration(plan.makespan_s)} on "
        f"{counted(plan.devices, unit)}, at best "
        f"{duration(plan.lower_bound_s)}, {plan.utilisation:.0%} busy."
    )


def _row(item: Placement) -> tuple[str, ...]:
    share = f" ({item.planned.gpu:.2g})" if 0 < item.planned.gpu < 1 else ""
    return (
        duration(item.start_s),
        duration(item.planned.seconds),
        f"{item.device}{share}",
        item.planned.job.title + (f" from step {item.planned.step}" if item.planned.step else ""),
        ", ".join(_trial_labels(item.planned.job)),
    )


def _trial_labels(job: Job) -> list[str]:
    """The shots of a job's trials, with the variant if trials differ in options of scoring only."""
    several = len({trial.method.label for trial in job.trials}) > 1
    return [
        (f"{trial.method.label} " if several else "") + _trial_label(trial) for trial in job.trials
    ]


def _trial_label(trial: Trial) -> str:
    shots = f"{trial.shot}-shot" if trial.way == 1 else f"{trial.way}-way {trial.shot}-shot"
    return shots if trial.dataset == trial.train_on else f"{trial.dataset.name} {shots}"


def duration(seconds: float) -> str:
    """42 s, 3 min 20 s, 5 h 12 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 and whole % 60 else "")
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
