"""One launch from the YAML to the table: check, plan, run, show."""

import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Protocol

from rich.console import Console

from fssplat.common.errors import InputError, RayLostError
from fssplat.common.passwords import hidden
from fssplat.common.printing import Screen, command_line, counted
from fssplat.experiment.reading import load_experiment
from fssplat.experiment.schema import ExperimentSpec
from fssplat.launching import checks
from fssplat.launching.cluster import Cluster, cluster
from fssplat.launching.context import LaunchContext
from fssplat.launching.display.progress import Progress
from fssplat.launching.job_run import run
from fssplat.launching.ray_faults.address import ray_address
from fssplat.launching.ray_faults.watch import complain_of_loss
from fssplat.launching.run_record import new_id, recorded
from fssplat.launching.stop_request import StopRequest
from fssplat.planning.packing import Machine
from fssplat.planning.plan import Plan, make_plan
from fssplat.planning.plan_table import plan_table
from fssplat.planning.rerun import chosen_trials
from fssplat.planning.share import Share
from fssplat.report.evidence.timings import times_of
from fssplat.report.terminal.efficiency import cost_tables
from fssplat.report.terminal.table import results_table
from fssplat.results import environment
from fssplat.results.launch_listener import LaunchInfo, LaunchListener
from fssplat.results.maintenance import request_rerun, reset_failed
from fssplat.results.notes import Note
from fssplat.results.records import SETTLED
from fssplat.results.source_code import freshness
from fssplat.results.store import Store
from fssplat.worker.claimed_job import Work

TABLE_WIDTH = 200  # columns of the result table in a file


class LaunchRequest(Protocol):
    """An experiment to launch, and the command line that launches it again."""

    @property
    def rerun(self) -> tuple[str, ...]:
        """Which finished trials to run again, see `chosen_trials`."""
        ...

    def load(self) -> ExperimentSpec: ...

    def command(self, name: str = "launch") -> str: ...

    def report_command(self) -> str:
        """The command that writes its report; empty if no command does."""
        ...

    def typed(self) -> str: ...


@dataclass(frozen=True)
class Request:
    """An experiment file and the settings changed on the command line."""

    path: Path
    changes: tuple[str, ...] = ()
    following: tuple[Path, ...] = ()  # files that the same command launches after this one
    rerun: tuple[str, ...] = ()  # which finished trials to run again, see `chosen_trials`

    def load(self) -> ExperimentSpec:
        return load_experiment(self.path, self.changes)

    def command(self, name: str = "launch") -> str:
        """The command line of this request, with `***` for passwords."""
        files = [self.path, *(self.following if name == "launch" else ())]
        settings = [part for change in self.changes for part in ("--set", hidden(change))]
        return command_line(["fssplat", name, *files, *settings])

    def report_command(self) -> str:
        return self.command("report")

    def typed(self) -> str:
        """The experiment file as it is written, with `***` for passwords."""
        return hidden(self.path.read_text(encoding="utf-8"))


def launch(
    request: LaunchRequest,
    console: Console | None = None,
    work: Work | None = None,
    listeners: Sequence[LaunchListener] = (),
    share: Share | None = None,
) -> int:
    """Run every trial that has no result yet, then show the table. Returns the exit code:

    0 all trials have a result or, with a `share`, run in other launches, 1 some failed or
    diverged, or the disk is full, 130 stopped by Ctrl-C or `fssplat stop`, 143 by SIGTERM. Raises
    InputError before anything starts.
    """
    console = console or Screen()
    experiment = request.load()
    time.sleep(share.delay_s if share is not None else 0.0)
    plan = make_plan(experiment)
    again = _trials_to_rerun(request, plan, Store(experiment.store))
    if again:
        request_rerun(plan.jobs, again, Store.open(experiment.store))
        plan = make_plan(experiment)
    checks.check_machine(plan)
    unchecked = checks.check_weights(plan)
    console.print(plan_table(plan))
    checks.check_data(plan)
    store = Store.open(experiment.store)
    checks.check_disk(store)
    for listener in listeners:
        listener.check(experiment, store)
    for line in unchecked:
        console.print(line, soft_wrap=True)
    console.print(checks.disk_warning(plan, store), end="", soft_wrap=True)
    started = Launch(request, plan, store, console, work, listeners, share)
    if plan.pending:
        stop = started.run()
    else:
        stop = StopRequest()
        for listener in listeners:
            listener.deliver_finished(started.info)
    return conclude(request, plan, store, stop, console, share)


def reset(request: LaunchRequest) -> str:
    """Reset failed and diverged trials, so that the next launch runs them. Returns a line."""
    plan, store = plan_from(request)
    return f"To run again: {counted(reset_failed(plan.jobs, plan.states, store), 'trial')}."


def dry_run(
    request: LaunchRequest, console: Console, listeners: Sequence[LaunchListener] = ()
) -> None:
    """Check and print all that a launch does before it starts; leave no file behind.

    Raises InputError or StoreAwayError.
    """
    plan, store = plan_from(request)
    again = _trials_to_rerun(request, plan, store)
    if again:
        console.print(f"{len(again)} finished trials would run again, beside these:")
    checks.check_machine(plan)
    unchecked = checks.check_weights(plan)
    checks.check_data(plan)
    checks.check_writable(store)
    checks.check_disk(store)
    unchecked += [listener.check(plan.experiment, store, make=False) for listener in listeners]
    console.print(plan_table(plan))
    for line in filter(None, unchecked):
        console.print(line, soft_wrap=True)
    console.print(checks.disk_warning(plan, store), end="", soft_wrap=True)


def conclude(
    request: LaunchRequest,
    plan: Plan,
    store: Store,
    stop: StopRequest,
    console: Console,
    share: Share | None = None,
) -> int:
    """Show the table, what is missing and how to resume. Returns the exit code."""
    states = store.states(plan.trials)
    console.print()
    page(console).print(results_table(plan.trials, states, store))
    console.print(stale_note(request, plan, store), end="", soft_wrap=True)
    if plan.experiment.costs:
        show_costs(request, plan, store, console)
    if stop.requested.is_set():
        console.print(stop.reason, end="\n" if stop.reason else "", soft_wrap=True)
        console.print(f"Stopped. To go on: {request.command()}", soft_wrap=True)
        if stop.reason:
            return 1
        return 143 if stop.signal == signal.SIGTERM else 130
    bad = sum(status.state in ("failed", "diverged") for status in states.values())
    if bad:
        failed = counted(bad, "trial")
        console.print(f"{failed} failed. To see what was printed: {request.command('logs')}")
        console.print(f"After you fix them: {request.command('retry')}")
    cut = sum(status.state not in (*SETTLED, "failed") for status in states.values())
    if cut and share is not None:
        console.print(
            f"Nothing is left here: {counted(cut, 'trial')} of other launches on this store."
        )
        return 1 if bad else 0
    if cut:  # their state could not be written, e.g. on a full disk
        console.print(f"{counted(cut, 'trial')} cut short. To go on: {request.command()}")
    if request.report_command() and any(one.state == "finished" for one in states.values()):
        console.print(f"Tables, figures and a page of these results: {request.report_command()}")
    return 1 if bad or cut else 0


def show_costs(request: LaunchRequest, plan: Plan, store: Store, console: Console) -> None:
    """Print the cost tables with the times that the store has, or how to measure some."""
    times = times_of(plan.trials, store.timings())
    page(console).print(cost_tables(plan.trials, store.results(plan.trials), times))
    if not times:
        console.print(f"Times of episodes are not measured yet: {request.command('time')}")


def _trials_to_rerun(request: LaunchRequest, plan: Plan, store: Store) -> list[str]:
    if not request.rerun:
        return []
    return chosen_trials(request.rerun, plan.trials, store.results(plan.trials))


def page(console: Console) -> Console:
    """The same console; if it writes to a file, wide enough for any table."""
    if console.is_terminal:
        return console
    return Screen(file=console.file, width=max(console.width, TABLE_WIDTH))


class Launch:
    """A launch of a plan, under an id of its own."""

    def __init__(
        self,
        request: LaunchRequest,
        plan: Plan,
        store: Store,
        console: Console,
        work: Work | None = None,
        listeners: Sequence[LaunchListener] = (),
        share: Share | None = None,
    ) -> None:
        self.share = share
        self.request, self.plan, self.store = request, plan, store
        self.console, self.work, self.listeners = console, work, listeners
        self.id = new_id()
        self.commit = environment.commit()
        self._listening = True

    @property
    def info(self) -> LaunchInfo:
        """What the listeners get. Its id is empty if there is no job to run."""
        return LaunchInfo(
            launch=self.id if self.plan.pending else "",
            experiment=self.plan.experiment,
            store=self.store,
            trials=self.plan.trials,
            fingerprints=self.plan.fingerprints,
            commit=self.commit,
            sync_command=self.request.command("sync"),
            ui_command=self.request.command("ui"),
            command=self.request.command(),
            warn=partial(self.console.print, soft_wrap=True),
        )

    def run(self) -> StopRequest:
        """Run the jobs and close the listeners. Raises RayLostError after a line about it."""
        try:
            return self._run()
        except RayLostError as error:
            kept = f"Results and checkpoints are kept in {self.store.address}."
            complain_of_loss(error, kept, self.request.command())
            self._close_listeners(stopped=True)
            raise

    def _run(self) -> StopRequest:
        """Start Ray and the listeners side by side, run the jobs, close both."""
        with ExitStack() as stack:
            stack.enter_context(self._recorded())
            opening = ThreadPoolExecutor(1).submit(self._open_listeners)
            address = ray_address()
            self.console.print(f"Joining Ray at {address}." if address else "Starting Ray.")
            machines = stack.enter_context(cluster())
            plan = self._plan_for(machines)
            progress = Progress(
                plan.pending,
                plan.trials,
                plan.devices,
                self.console,
                logs_command=self.request.command("logs"),
            )
            opening.result()
            with progress:
                stop = run(plan.pending, self._context(plan, progress), machines)
            self._close_listeners(stopped=stop.requested.is_set())
        return stop

    def _close_listeners(self, stopped: bool) -> None:
        if self._listening:
            self._listening = False
            self._write_table()
            for listener in self.listeners:
                listener.close(stopped)

    def _plan_for(self, machines: Cluster) -> Plan:
        """The plan for the machines that Ray found.

        The first plan assumed this machine, so that errors in the experiment show before Ray
        starts. A cluster has other cores and GPUs, so jobs get other shares and another order.
        """
        found = Machine(machines.cpus, machines.gpus)
        if found == self.plan.machine:
            return self.plan
        plan = make_plan(self.plan.experiment, self.store, found)
        self.console.print(plan_table(plan))
        return plan

    def _context(self, plan: Plan, progress: Progress) -> LaunchContext:
        def on_note(note: Note) -> None:
            progress.on_note(note)
            for listener in self.listeners:
                listener.on_note(note)

        return LaunchContext(
            store=self.store,
            launch=self.id,
            on_note=on_note,
            say=progress.say,
            about={"commit": self.commit},
            images=plan.images,
            fingerprints=plan.fingerprints,
            max_concurrent=plan.experiment.resources.max_concurrent,
            work=self.work,
            share=self.share,
        )

    def _open_listeners(self) -> None:
        for listener in self.listeners:
            listener.open(self.info)

    def _recorded(self) -> AbstractContextManager[None]:
        """Record in the store what runs, for the length of the block."""
        request = self.request
        return recorded(
            self.store, self.id, self.plan.experiment, request.command(), request.typed()
        )

    def _write_table(self) -> None:
        """Write the result table as text beside the description, if the disk has room for it."""
        page = StringIO()
        sheet = Screen(file=page, width=TABLE_WIDTH)
        sheet.print(
            results_table(self.plan.trials, self.store.states(self.plan.trials), self.store)
        )
        text = "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"
        with suppress(InputError):
            self.store.files.write(f"launches/{self.id}/table.txt", text.encode())


def plan_from(request: LaunchRequest, machine: Machine | None = None) -> tuple[Plan, Store]:
    """An experiment's plan and its store, which is not made if it does not exist."""
    experiment = request.load()
    store = Store(experiment.store)
    return make_plan(experiment, store, machine), store


def trial_states(plan: Plan, store: Store) -> Mapping[str, tuple[str, str]]:
    """State and reason of each trial; `running` without a process counts as pending."""
    running = {job.key for job in plan.jobs if _states_running(job.trial_ids, plan)}
    held = {key for key in running if store.job_held(key)}
    found = {}
    for job in plan.jobs:
        for trial_id in job.trial_ids:
            status = plan.states[trial_id]
            if status.state == "running" and job.key not in held:
                found[trial_id] = ("pending", "was cut; the next launch goes on")
            else:
                found[trial_id] = (status.state, status.reason)
    return found


def stale_note(request: LaunchRequest, plan: Plan, store: Store) -> str:
    """Lines about results of other source code, and how to go on; empty if there are none."""
    found = [freshness(plan.trials[i], one) for i, one in store.results(plan.trials).items()]
    stale, unknown = found.count("stale"), found.count("unknown")
    lines = []
    if stale:
        lines.append(
            f"Stale: {stale} of {counted(len(found), 'result')}. The source code has changed "
            "since. If the change cannot change a number, nothing is needed. Else run them again, "
            "or raise the method's RESULT_VERSION.\n"
            f"    To run them again: {request.command()} --rerun stale\n"
            f"    To see what has changed: {request.command('status')} --changes"
        )
    if unknown:
        lines.append(
            f"Of an unknown state of the source code: {unknown} of "
            f"{counted(len(found), 'result')}. It was not recorded then."
        )
    return "".join(f"{line}\n" for line in lines)


def _states_running(trial_ids: tuple[str, ...], plan: Plan) -> bool:
    return any(plan.states[trial_id].state == "running" for trial_id in trial_ids)
