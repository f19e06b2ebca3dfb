"""One search from the YAML to its best setting: check, open the study, run, write down."""

import json
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from optuna.study import Study
from rich.console import Console

from fssplat.common.disk_space import is_disk_full
from fssplat.common.errors import InputError
from fssplat.common.passwords import hidden_in
from fssplat.launching.board import open_board
from fssplat.launching.cluster import Cluster, cluster
from fssplat.launching.launch import TABLE_WIDTH, Request
from fssplat.launching.stop_request import StopRequest, stop_on_signals
from fssplat.launching.tune_run import as_config, background, fit
from fssplat.report.search_plots import write_plots
from fssplat.results import environment
from fssplat.search import output
from fssplat.search.mlflow_feed import Mirror, address_of
from fssplat.search.output import Ended
from fssplat.search.prepare import STUDIES_FOLDER, Prepared, point_resources, prepare
from fssplat.search.space import Point
from fssplat.search.study import open_study, study_progress
from fssplat.search.worker import (
    Objective,
    PerformPoint,
    PointTask,
    packed,
)
from fssplat.worker.process import RETRIES, describe

POINTS_FOLDER = "points"
BEST = "best.yaml"


def search(
    request: Request, console: Console | None = None, objective: Objective | None = None
) -> int:
    """Run the study to its number of points, end with the best. Returns the exit code:

    0 all points have their end, 1 none is complete or the search was given up, 130 or 143 stopped
    by Ctrl-C or SIGTERM. Raises InputError before anything starts, and where the study or a disk
    fails on the way.
    """
    console = console or Console()
    prepared = prepare(request)
    with prepared.database.in_use(), roomy():
        return conducted(request, prepared, console, objective)


def conducted(
    request: Request, prepared: Prepared, console: Console, objective: Objective | None
) -> int:
    """A checked search to its exit code."""
    study = open_study(prepared.search, prepared.database, prepared.mark)
    drive = Drive(request, prepared, study, console, objective)
    console.print(drive.opening(), soft_wrap=True)
    stop = StopRequest()
    defaults = prepared.jobs(prepared.search.defaults)
    address = address_of(prepared.search, prepared.store)
    mirror = Mirror(prepared.search, defaults, address, study, console.print)
    with mirror.following(drive.hear):
        with drive.listening():
            if study_progress(study).spent < prepared.search.spec.trials:
                stop = drive.run()
        points = output.all_ended(prepared.search, study)
        files = drive.write(points)
    mirror.close(points, files, stop)
    return drive.conclude(points, stop)


@contextmanager
def roomy() -> Iterator[None]:
    """Raises InputError where the driver itself meets a full disk: scratch, logs, the store."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise InputError(
            f"{describe(error)}. Make room and run the same command: points that were cut go on."
        ) from error


class Drive:
    """One driver of a study."""

    def __init__(
        self,
        request: Request,
        prepared: Prepared,
        study: Study,
        console: Console,
        objective: Objective | None,
    ) -> None:
        self.request, self.prepared, self.study = request, prepared, study
        self.console, self.objective = console, objective
        self.search, self.spec = prepared.search, prepared.search.spec
        self.folder = prepared.folder(study.study_name)
        self.hear: list[Callable[[Ended], None]] = [self.tell]
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.top: Ended | None = None
        self.unwritten = ""  # why files are missing at the end

    def opening(self) -> str:
        """What is about to happen."""
        spent, trials = study_progress(self.study).spent, self.spec.trials
        folds = len(self.prepared.jobs(self.search.defaults))
        dimensions = ", ".join(self.search.space)
        return (
            f"{self.study.study_name}: {trials} points over {dimensions}; {folds} trainings each, "
            f"{self.spec.sampler}{' with asha' if self.spec.prunes else ''}. {spent} points done.\n"
            f"Scored on {output.WHAT[self.spec.selection]}.\n"
            f"Study in {self.prepared.database.shown}"
        )

    # -------------------------------------------------------------- running

    def run(self) -> StopRequest:
        """Ray's part: points until the study has its number, or a stop."""
        import ray

        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            machines = stack.enter_context(cluster())
            first = self.prepared.jobs(self.search.defaults)[0]
            cpu, gpu = point_resources(self.search, first, machines)
            stop = StopRequest()
            stack.enter_context(stop_on_signals(stop))
            board = open_board()
            try:
                self._fit(board, stop, self.slots(machines, cpu, gpu), cpu, gpu)
            finally:
                ray.kill(board)
        return stop

    def slots(self, machines: Cluster, cpu: float, gpu: float) -> int:
        """How many points run at once."""
        most = int(machines.gpus / gpu) if gpu else int(machines.cpus / cpu)
        return max(1, min(most, self.search.experiment.resources.max_concurrent or most))

    def _fit(self, board: Any, stop: StopRequest, slots: int, cpu: float, gpu: float) -> None:
        from fssplat.search.tune_searcher import Asha, SafeOptuna  # imports Ray

        def config_of(number: int, point: Point) -> dict[str, Any]:
            task = packed(self.task(number, point, cpu, gpu))
            return as_config(f"point-{number}", task, cpu, gpu)

        database = self.prepared.database
        searcher = SafeOptuna(self.search, self.study, database, slots, stop, config_of, self.news)
        try:
            with background(searcher.beat):
                fit(
                    PerformPoint(self.objective),
                    searcher,
                    board,
                    stop,
                    idle=lambda: not searcher.live,
                    retries=RETRIES,
                    scheduler=Asha(searcher),
                )
        finally:
            for trial_id in list(searcher.live):
                searcher.put_back(trial_id)

    def task(self, number: int, point: Point, cpu: float, gpu: float) -> PointTask:
        """What a worker is told about a point. Raises InputError where it cannot be resolved."""
        artefacts = self.prepared.store.folder
        return PointTask(
            number=number,
            values=point,
            jobs=self.prepared.jobs(point),
            rungs=self.spec.scored_shares,
            look=self.spec.selection,
            episodes=self.spec.episodes,
            folder=str(self.folder / POINTS_FOLDER),
            cpu=cpu,
            gpu=gpu,
            artefacts=str(artefacts / "artefacts") if artefacts is not None else "",
            fingerprints=self.prepared.fingerprints,
        )

    # -------------------------------------------------------------- telling

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A thread that passes ended points on, so that nobody waits for screen or MLflow."""
        with ExitStack() as stack:
            thread = threading.Thread(target=self._follow, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(self.news.put, None)
            yield

    def _follow(self) -> None:
        while (trial := self.news.get()) is not None:
            one = output.ended(self.search, trial)
            if one is not None:
                for hear in self.hear:
                    hear(one)

    def tell(self, one: Ended) -> None:
        """A line on the screen."""
        if self.top is None:
            self.top = output.best(output.all_ended(self.search, self.study))
        self.top = output.best([one, *([self.top] if self.top else [])])
        self.console.print(output.line(one, self.top), soft_wrap=True, highlight=False)

    def conclude(self, points: list[Ended], stop: StopRequest) -> int:
        """The table, the files, how to go on; the exit code."""
        self.console.print()
        table = output.table(self.search, points)
        width = max(self.console.width, TABLE_WIDTH)
        self.console.print(table, width=width, crop=False, no_wrap=True)
        self.console.print(f"All of it: {self.folder}", soft_wrap=True)
        for line in filter(None, (self.unwritten, stop.reason)):
            self.console.print(line, soft_wrap=True, markup=False)
        if stop.requested.is_set():
            again = f"Stopped. To go on: {self.request.command('search')}"
            self.console.print(again, soft_wrap=True)
            if not stop.signal:
                return 1
            return 130 if stop.signal == signal.SIGINT else 143
        if output.best(points) is None:
            self.console.print("No point is complete; the reasons stand in trials.csv.")
            return 1
        if self.unwritten:
            return 1
        self.console.print(f"Next: fssplat launch {self.folder / BEST}", soft_wrap=True)
        return 0

    def write(self, points: list[Ended]) -> Path:
        """The best setting, a table of all points, plots, and what they were made with.

        What cannot be written is told at the end: the study has it all, the same command writes it.
        """
        try:
            self._write(points)
        except OSError as error:
            self.unwritten = (
                f"{self.folder}: some files are missing ({describe(error)}). The study has every "
                "point; mend it and run the same command."
            )
        return self.folder

    def _write(self, points: list[Ended]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        output.write_csv(self.search, points, self.folder / "trials.csv")
        top, name = output.best(points), self.study.study_name
        if top is not None:
            output.write_best(self.search, top, name, len(points), self.folder / BEST)
            write_plots(self.study, self.folder / "plots")
        about = {
            "experiment": hidden_in(self.search.experiment.model_dump(mode="json")),
            "environment": environment.capture(),
        }
        (self.folder / "search.json").write_text(json.dumps(about, indent=1, default=str))
        self._send()

    def _send(self) -> None:
        """The files into a store behind an address; points' own folders stay here."""
        store = self.prepared.store
        if store.folder is not None:
            return
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            if path.is_file() and name.parts[0] != POINTS_FOLDER:
                store.files.put(f"{STUDIES_FOLDER}/{self.study.study_name}/{name.as_posix()}", path)
