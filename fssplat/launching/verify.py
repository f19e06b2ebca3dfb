"""Run a published row again: its experiment, the launch, and a comparison of the results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from fssplat.common.passwords import hidden
from fssplat.common.printing import Screen, command_line
from fssplat.experiment.expand import expand
from fssplat.experiment.reading import made_experiment
from fssplat.experiment.schema import ExperimentSpec
from fssplat.launching import launch as launching
from fssplat.methods import METHODS
from fssplat.planning.plan import Plan
from fssplat.report import published
from fssplat.report.published import PublishedRow
from fssplat.report.terminal.comparison import comparison_table
from fssplat.results.launch_listener import LaunchListener
from fssplat.worker.claimed_job import Work


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
        """The command of a store, or else `verify`: it launches, retries, delivers, and with
        --changes it takes the place of `status`."""
        if name in ("logs", "ui"):
            return command_line(["fssplat", name, "--store", hidden(self.load().store)])
        again = ["--retry"] if name == "retry" else []
        base = ["--base", str(self.base)] if self.base is not None else []
        settings = [part for change in self.changes for part in ("--set", hidden(change))]
        return command_line(["fssplat", "verify", self.row.name, *base, *settings, *again])

    def report_command(self) -> str:
        return ""

    def typed(self) -> str:
        """The row as an experiment file."""
        return yaml.safe_dump(published.experiment(self.row), sort_keys=False)


def verify(
    request: RowRequest,
    console: Console | None = None,
    work: Work | None = None,
    listeners: Sequence[LaunchListener] = (),
) -> int:
    """Run the row's missing trials, then print the comparison. Returns the launch's exit code.

    Raises InputError before anything starts: the row cannot be run, its data are missing, ...
    """
    console = console or Screen()
    code = launching.launch(request, console, work, listeners)
    show(request, console)
    return code


def show(request: RowRequest, console: Console) -> None:
    """Print our results in the store beside the published ones."""
    plan, store = launching.plan_from(request)
    finished = [name for name, status in plan.states.items() if status.state == "finished"]
    results = store.results(finished)
    drawn = comparison_table(request.row, plan.trials, results, differs(request, plan))
    launching.page(console).print(drawn)


def differs(request: RowRequest, plan: Plan) -> bool:
    """Whether --set or the base file changed a setting of any trial."""
    printed = expand(made_experiment(published.experiment(request.row), None), METHODS)
    own = {trial.trial_id(plan.fingerprints) for trial in printed}
    return not set(plan.trials) <= own
