"""Run published rows again: their experiments, the launch, and a comparison of the results.

A request is about one row, or about the rows of a table or paper, which run in one launch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rich.console import Console

from fssplat.common.errors import InputError
from fssplat.common.passwords import hidden
from fssplat.common.printing import Screen, command_line
from fssplat.experiment.expand import expand
from fssplat.experiment.reading import made_experiment
from fssplat.experiment.rules import dataset_names
from fssplat.experiment.schema import CombinedExperiment, ExperimentSpec, GridSpec
from fssplat.experiment.trial import Trial
from fssplat.launching import launch as launching
from fssplat.methods import METHODS
from fssplat.planning.plan import Plan
from fssplat.report import published
from fssplat.report.published import PublishedRow
from fssplat.report.published_tables import Ours
from fssplat.report.terminal.comparison import comparison_table
from fssplat.report.terminal.published_table import published_tables
from fssplat.results.launch_listener import LaunchListener
from fssplat.results.records import Result
from fssplat.worker.claimed_job import Work

T = TypeVar("T")


@dataclass(frozen=True)
class RowRequest:
    """A row as typed. A `LaunchRequest`."""

    row: PublishedRow
    base: Path | None = None  # experiment file that gives data sets, weights and profiles
    changes: tuple[str, ...] = ()
    rerun: tuple[str, ...] = ()  # which finished trials to run again, see `chosen_trials`

    def load(self) -> ExperimentSpec:
        return made_experiment(published.experiment(self.row), self.base, self.changes)

    def command(self, name: str = "launch") -> str:
        return _command(self, self.row.name, name)

    def report_command(self) -> str:
        return ""

    def typed(self) -> str:
        """The row as an experiment file."""
        return yaml.safe_dump(published.experiment(self.row), sort_keys=False)


@dataclass(frozen=True)
class TableRequest:
    """A table or a paper as typed, such as `JC2A:1` or `JC2A`. A `LaunchRequest`.

    Raises InputError from `load` if none of its rows can be run.
    """

    name: str
    base: Path | None = None  # as in `RowRequest`
    changes: tuple[str, ...] = ()
    rerun: tuple[str, ...] = ()

    def load(self) -> CombinedExperiment:
        parts = [part for part, _ in self.parts()]
        if not parts:
            reasons = "; ".join(dict.fromkeys(self.left_out().values()))
            raise InputError(f"{self.name}: no row can be run: {reasons}.")
        return combined("-".join(["verify", *published.split_name(self.name)]), parts)

    def command(self, name: str = "launch") -> str:
        return _command(self, self.name, name)

    def report_command(self) -> str:
        return ""

    def typed(self) -> str:
        """The rows as experiment files, one after the other."""
        files = [published.experiment(of_part[0]) for _, of_part in self.parts()]
        return yaml.safe_dump_all(files, sort_keys=False)

    def rows(self) -> list[PublishedRow]:
        return published.matching(self.name)

    def left_out(self) -> dict[str, str]:
        """Why rows are not run, by the name of the row."""
        return _left_out(self.name)

    def parts(self) -> list[tuple[ExperimentSpec, list[PublishedRow]]]:
        """An experiment for each group of rows whose settings are equal, and these rows."""
        return _parts(self.name, self.base, self.changes)


Request = RowRequest | TableRequest


def request_for(
    name: str, base: Path | None, changes: tuple[str, ...], rerun: tuple[str, ...]
) -> Request:
    """The request of a name as typed. Raises InputError for an unknown one."""
    if len(published.split_name(name)) > 2:
        return RowRequest(published.find(name), base, changes, rerun)
    published.matching(name)
    return TableRequest(name, base, changes, rerun)


def verify(
    request: Request,
    console: Console | None = None,
    work: Work | None = None,
    listeners: Sequence[LaunchListener] = (),
) -> int:
    """Run the missing trials, then print the comparison. Returns the launch's exit code.

    Raises InputError before anything starts: no row can be run, data are missing, ...
    """
    console = console or Screen()
    code = launching.launch(request, console, work, listeners)
    show(request, console)
    return code


def show(request: Request, console: Console) -> None:
    """Print our results in the store beside the published ones."""
    plan, store = launching.plan_from(request)
    finished = [name for name, status in plan.states.items() if status.state == "finished"]
    results = store.results(finished)
    page = launching.page(console)
    changed = differs(request, plan)
    if isinstance(request, RowRequest):
        page.print(comparison_table(request.row, plan.trials, results, changed))
        return
    ours = _ours(request, plan, results)
    page.print(published_tables(request.rows(), ours, request.left_out(), changed))


def differs(request: Request, plan: Plan) -> bool:
    """Whether --set or the base file changed a setting of any trial."""
    if isinstance(request, RowRequest):
        printed = [made_experiment(published.experiment(request.row), None)]
    else:
        printed = [part for part, _ in _parts(request.name, None, ())]
    own = {_id(trial, plan) for part in printed for trial in expand(part, METHODS)}
    return not set(plan.trials) <= own


def combined(name: str, parts: Sequence[ExperimentSpec]) -> CombinedExperiment:
    """One experiment with the trials of all parts. The store and other settings are the first's.

    Data sets that are only trained on are in its `grid.dataset`, too.
    """
    grids = [part.grid for part in parts]
    grid = GridSpec(
        dataset=tuple(filter(None, _each((*dataset_names(p), p.train_on) for p in parts))),
        fold=_each(grid.fold for grid in grids),
        shot=_each(grid.shot for grid in grids),
        way=_each(grid.way for grid in grids),
        method=_each(grid.method for grid in grids),
        backbone=_each(grid.backbone for grid in grids),
        seed=_each(grid.seed for grid in grids),
    )
    settings = {key: getattr(parts[0], key) for key in ExperimentSpec.model_fields}
    settings |= {"name": name, "dataset": "", "train_on": "", "grid": grid}
    return CombinedExperiment.model_construct(**settings, parts=tuple(parts))


def _each(values: Iterable[Iterable[T]]) -> tuple[T, ...]:
    """Every value once, in the order of the first time."""
    found: list[T] = []
    for one in (one for some in values for one in some):
        if one not in found:
            found.append(one)
    return tuple(found)


@cache
def _parts(
    name: str, base: Path | None, changes: tuple[str, ...]
) -> list[tuple[ExperimentSpec, list[PublishedRow]]]:
    """See `TableRequest.parts`."""
    groups: list[tuple[dict[str, Any], list[PublishedRow]]] = []
    for row in published.matching(name):
        if row.name in _left_out(name):
            continue
        settings = published.experiment(row) | {"name": ""}
        of_group = next((rows for known, rows in groups if known == settings), None)
        if of_group is None:
            groups.append((settings, [row]))
        else:
            of_group.append(row)
    return [
        (made_experiment(published.experiment(rows[0]), base, changes), rows) for _, rows in groups
    ]


@cache
def _left_out(name: str) -> dict[str, str]:
    """See `TableRequest.left_out`."""
    reasons = {row.name: _reason(row) for row in published.matching(name)}
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(row: PublishedRow) -> str:
    """Why a row is not run in a table; empty if it is run."""
    if row.method not in published.METHODS:
        return "no such method here"
    return published.why_not_run(row).rstrip(".")


def _ours(request: TableRequest, plan: Plan, results: dict[str, Result]) -> Ours:
    ids = {
        row.name: [_id(trial, plan) for trial in expand(part, METHODS)]
        for part, of_part in request.parts()
        for row in of_part
    }
    return Ours(plan.trials, results, ids)


def _id(trial: Trial, plan: Plan) -> str:
    return trial.trial_id(plan.fingerprints)


def _command(request: Request, typed: str, name: str) -> str:
    """The command of a store, or else `verify`: it launches, retries, delivers, and with
    --changes it takes the place of `status`."""
    if name in ("logs", "ui"):
        return command_line(["fssplat", name, "--store", hidden(request.load().store)])
    again = ["--retry"] if name == "retry" else []
    base = ["--base", str(request.base)] if request.base is not None else []
    settings = [part for change in request.changes for part in ("--set", hidden(change))]
    return command_line(["fssplat", "verify", typed, *base, *settings, *again])
