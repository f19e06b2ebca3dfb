"""One search from the YAML to its best setting: check, open the study, run points, write files."""

import json
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from optuna.study import Study
from rich.console import Console

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError, RayLostError, described
from fssplat.common.passwords import hidden_in
from fssplat.common.printing import Screen, command_line, counted
from fssplat.launching.board import OpenBoard, open_board
from fssplat.launching.cluster import Cluster, cluster
from fssplat.launching.launch import TABLE_WIDTH, Request
from fssplat.launching.ray_faults.watch import complain_of_loss
from fssplat.launching.run_record import new_id, recorded, watch_stop_file
from fssplat.launching.stop_request import StopRequest, stop_on_signals
from fssplat.launching.tune_run import as_config, background, fit
from fssplat.report.search_plots import write_plots
from fssplat.results import environment
from fssplat.search import output
from fssplat.search.mlflow_feed import MlflowFeed, mlflow_address
from fssplat.search.output import EndedPoint, best_point, ended_point, ended_points
from fssplat.search.prepare import Prepared, point_resources, prepare
from fssplat.search.space import Point
from fssplat.search.study import open_study, study_progress
from fssplat.search.worker import STUDIES_FOLDER, Objective, PerformPoint, PointTask, packed
from fssplat.worker.process import RETRIES

POINTS_FOLDER = "points"
BEST = "best.yaml"


def search(
    request: Request, console: Console | None = None, objective: Objective | None = None
) -> int:
    """Run points until the study has `search.trials` of them, and write the best one.

    Returns the exit code: 0 if all points have ended; 1 if none is complete, or if the search gave
    up; 130 if Ctrl-C or `fssplat stop` stopped it, 143 if SIGTERM did. Raises InputError before
    anything starts, and if the study's database or a disk fails later.
    """
    console = console or Screen()
    prepared = prepare(request)
    launch, command = new_id(), request.command("search")
    record = recorded(prepared.store, launch, prepared.search.experiment, command, request.typed())
    with prepared.database.in_use(), disk_full_as_input_error(), record:
        study = open_study(prepared.search, prepared.database, prepared.mark)
        driver = SearchDriver(request, prepared, study, console, objective, launch)
        for line in (driver.introduction(), *prepared.unchecked):
            console.print(line, soft_wrap=True)
        feed = MlflowFeed(prepared, mlflow_address(prepared), study, launch, console.print)
        stop = StopRequest()
        with feed.following(driver.listeners):
            with driver.listening():
                if study_progress(study).spent < prepared.search.spec.trials:
                    stop = driver.run()
            points = ended_points(prepared.search, study)
            files = driver.write_files(points)
        feed.close(points, files, stop)
        return driver.finish(points, stop)


@contextmanager
def disk_full_as_input_error() -> Iterator[None]:
    """Raises InputError if the driver's own disk is full: scratch, logs or the store."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise InputError(
            f"{described(error)}. Make room and run the same command: interrupted points continue."
        ) from error


class SearchDriver:
    """One driver of a study."""

    def __init__(
        self,
        request: Request,
        prepared: Prepared,
        study: Study,
        console: Console,
        objective: Objective | None,
        launch: str = "",
    ) -> None:
        """`launch` is the id of this search's record in the store, by which it can be stopped."""
        self.launch = launch
        self.request, self.prepared, self.study = request, prepared, study
        self.console, self.objective = console, objective
        self.search, self.spec = prepared.search, prepared.search.spec
        self.folder = prepared.folder(study.study_name)
        self.listeners: list[Callable[[EndedPoint], None]] = [self.print_point]
        self.ended_trials: queue.SimpleQueue[Any] = queue.SimpleQueue()  # None: there are no more
        self.best: EndedPoint | None = None
        self.write_error = ""  # why files are missing at the end

    def introduction(self) -> str:
        """The lines to print before the search starts."""
        spent, trials = study_progress(self.study).spent, self.spec.trials
        trainings = len(self.prepared.jobs(self.search.defaults))
        names = ", ".join(self.search.space)
        pruning = " with asha" if self.spec.prunes else ""
        points = f"{counted(trials, 'point')} over {names}; {counted(trainings, 'training')} each"
        return (
            f"{self.study.study_name}: {points}, {self.spec.sampler}{pruning}. "
            f"{counted(spent, 'point')} done.\n"
            f"Scored on {output.SCORED_ON[self.spec.selection]}.\n"
            f"Study in {self.prepared.database.shown}"
        )

    # -------------------------------------------------------------- running

    def run(self) -> StopRequest:
        """Run points with Ray until the study has enough of them or a stop is requested.

        Raises RayLostError after a line about it.
        """
        try:
            return self._run()
        except RayLostError as error:
            kept = f"The study keeps every point, {self.folder} their checkpoints."
            complain_of_loss(error, kept, self.request.command("search"))
            raise

    def _run(self) -> StopRequest:
        self.folder.mkdir(parents=True, exist_ok=True)
        stop = StopRequest()
        with cluster() as machines:
            first = self.prepared.jobs(self.search.defaults)[0]
            cpu, gpu = point_resources(self.search, first, machines)
            watch = partial(watch_stop_file, self.prepared.store, self.launch, stop)
            with (
                stop_on_signals(stop),
                open_board() as board,
                background(board.watch),
                background(watch),
            ):
                self._fit(board, stop, self._slots(machines, cpu, gpu), cpu, gpu)
        return stop

    def _slots(self, machines: Cluster, cpu: float, gpu: float) -> int:
        """How many points run at the same time."""
        most = int(machines.gpus / gpu) if gpu else int(machines.cpus / cpu)
        return max(1, min(most, self.search.experiment.resources.max_concurrent or most))

    def _fit(self, board: OpenBoard, stop: StopRequest, slots: int, cpu: float, gpu: float) -> None:
        from fssplat.search.tune_searcher import Asha, StudySearcher  # imports Ray

        def config_of(number: int, point: Point) -> dict[str, Any]:
            task = packed(self.task(number, point, cpu, gpu))
            return as_config(f"point-{number}", task, cpu, gpu)

        searcher = StudySearcher(
            self.search,
            self.study,
            self.prepared.database,
            slots,
            stop,
            config_of,
            self.ended_trials,
        )
        try:
            with background(searcher.send_heartbeats):
                fit(
                    PerformPoint(self.objective),
                    searcher,
                    board,
                    stop,
                    idle=lambda: not searcher.running,
                    retries=RETRIES,
                    say=self.console.print,
                    scheduler=Asha(searcher),
                )
        finally:
            for trial_id in list(searcher.running):
                searcher.requeue(trial_id)

    def task(self, number: int, point: Point, cpu: float, gpu: float) -> PointTask:
        """A point as a worker's task. Raises InputError if the method refuses its values."""
        store = self.prepared.store.folder
        return PointTask(
            number=number,
            values=point,
            jobs=self.prepared.jobs(point),
            shares=self.spec.scored_shares,
            scored_on=self.spec.selection,
            episodes=self.spec.episodes,
            folder=str(self.folder / POINTS_FOLDER),
            cpu=cpu,
            gpu=gpu,
            artefacts=str(store / "artefacts") if store is not None else "",
            fingerprints=self.prepared.fingerprints,
            launch=self.launch,
            store=self.prepared.store.address if store is None else "",
        )

    # -------------------------------------------------------------- points that end

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Pass ended points to the listeners, in a thread, so that no point waits for them."""
        thread = threading.Thread(target=self._pass_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.ended_trials.put(None)
            thread.join()

    def _pass_on(self) -> None:
        while (trial := self.ended_trials.get()) is not None:
            point = ended_point(self.search, trial)
            if point is not None:
                for listener in self.listeners:
                    listener(point)

    def print_point(self, point: EndedPoint) -> None:
        if self.best is None:
            self.best = best_point(ended_points(self.search, self.study))
        self.best = best_point([point, *([self.best] if self.best else [])])
        self.console.print(output.point_line(point, self.best), soft_wrap=True, highlight=False)
        if point.state in ("failed", "diverged"):
            command = f"{self.request.command('logs')} {point.number}"
            self.console.print(f"    What it printed: {command}")

    # -------------------------------------------------------------- the end

    def finish(self, points: list[EndedPoint], stop: StopRequest) -> int:
        """Print the table, the folder of the files and the next command; returns the exit code."""
        self.console.print()
        width = self.console.width
        if not self.console.is_terminal:
            width = max(width, TABLE_WIDTH)
        table = output.points_table(self.search, points, width)
        self.console.print(table, width=width, crop=False, no_wrap=True)
        self.console.print(f"All files: {self.folder}", soft_wrap=True)
        for line in filter(None, (self.write_error, stop.reason)):
            self.console.print(line, soft_wrap=True, markup=False)
        if stop.requested.is_set():
            again = f"Stopped. To go on: {self.request.command('search')}"
            self.console.print(again, soft_wrap=True)
            if stop.reason:
                return 1
            return 143 if stop.signal == signal.SIGTERM else 130
        if best_point(points) is None:
            self.console.print("No point is complete; trials.csv lists the reasons.")
            return 1
        if self.write_error:
            return 1
        self.console.print(f"A page of this study: {self.request.report_command()}", soft_wrap=True)
        command = command_line(["fssplat", "launch", self.folder / BEST])
        self.console.print(f"Next: {command}", soft_wrap=True)
        return 0

    def write_files(self, points: list[EndedPoint]) -> Path:
        """Write the best setting, a table of all points, plots, and the environment.

        Returns their folder. `finish` reports an error: the study has every point, so the same
        command writes the files later.
        """
        try:
            self._write_files(points)
        except OSError as error:
            self.write_error = (
                f"{self.folder}: some files are missing ({described(error)}). The study has every "
                "point; repair the folder and run the same command."
            )
        return self.folder

    def _write_files(self, points: list[EndedPoint]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        output.write_csv(self.search, points, self.folder / "trials.csv")
        best, name = best_point(points), self.study.study_name
        if best is not None:
            output.write_best(self.search, best, name, len(points), self.folder / BEST)
            write_plots(self.study, self.folder / "plots")
        about = {
            "experiment": hidden_in(self.search.experiment.model_dump(mode="json")),
            "environment": environment.capture(),
        }
        (self.folder / "search.json").write_text(json.dumps(about, indent=1, default=str))
        self._upload()

    def _upload(self) -> None:
        """Copy the files into a store that is not a folder; the points' folders stay here."""
        store = self.prepared.store
        if store.folder is not None:
            return
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            if path.is_file() and name.parts[0] != POINTS_FOLDER:
                store.files.put(f"{STUDIES_FOLDER}/{self.study.study_name}/{name.as_posix()}", path)
