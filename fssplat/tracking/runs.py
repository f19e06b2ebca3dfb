"""Runs in MLflow: one experiment per YAML, a parent run per launch, a child run per trial.

The store is the source of truth, and only the driver writes to MLflow. A run is FINISHED only when
all numbers of its trial have arrived, so `sync` delivers every run again that is not FINISHED, or
that has the tag `fssplat.files`, because its files did not arrive.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fssplat.experiment.schema import MlflowSpec
from fssplat.experiment.trial import Trial
from fssplat.results.notes import LossAtStep
from fssplat.results.records import Result
from fssplat.results.store import Store
from fssplat.tracking import views
from fssplat.tracking.logged_models import local_files, show_model
from fssplat.tracking.names import (
    curve_of,
    metric_rows,
    now_ms,
    parameters,
    trial_tags,
    valid_tags,
)
from fssplat.tracking.server.artefacts import FILES_TAG, Artefacts
from fssplat.tracking.server.connection import Connection, connect, mlflow_errors
from fssplat.tracking.table_rows import SCORES, table_rows, write_rows

METRICS_PER_BATCH = 1000  # MLflow's own limits
PARAMS_PER_BATCH = 100


def open_tracking(uri: str, experiment: str, spec: MlflowSpec | None = None) -> "Tracking":
    """Open an MLflow experiment. Raises InputError and MlflowError, as `connect` does."""
    return Tracking(connect(uri, experiment), spec or MlflowSpec())


@dataclass(frozen=True)
class TrialRun:
    """A trial's run as MLflow has it."""

    run_id: str
    delivered: bool
    described: bool = True  # has its parameters
    diverged: bool = False
    lacks_files: bool = False  # its files did not arrive
    scores: Mapping[str, float] = field(default_factory=dict)  # of a delivered run


@dataclass
class Tracking:
    """An open MLflow experiment; every method may raise MlflowError."""

    connection: Connection
    spec: MlflowSpec
    parent: str = ""  # run id of the launch
    runs: dict[str, TrialRun] = field(default_factory=dict)  # trial id -> its run
    curve_steps: dict[str, set[int]] = field(default_factory=dict)  # run id -> steps with a loss
    artefacts: Artefacts = field(init=False)

    def __post_init__(self) -> None:
        self.artefacts = Artefacts(self.connection)

    @property
    def client(self) -> Any:
        return self.connection.client

    @property
    def experiment_id(self) -> str:
        return self.connection.experiment_id

    # -------------------------------------------------------------- a launch

    def start_launch(self, launch: str, name: str, about: Mapping[str, str]) -> None:
        """Make the parent run of this launch's trials."""
        tags = {"fssplat.kind": "launch", "fssplat.launch": launch, **about}
        with mlflow_errors():
            run = self.client.create_run(
                self.experiment_id, tags=valid_tags(tags), run_name=f"{name} {launch}"
            )
        self.parent = run.info.run_id

    def end_launch(
        self,
        status: str,
        metrics: Mapping[str, float],
        files: Sequence[Path],
        note: str,
        report: Sequence[Path] = (),
    ) -> None:
        """Close the parent run with its totals, these files, and a description as Markdown.

        The files of the `report` become artefacts in the folder report.
        """

        def send() -> None:
            for path in files:
                self.client.log_artifact(self.parent, str(path))
            for path in report:
                self.client.log_artifact(self.parent, str(path), "report")

        with mlflow_errors():
            rows = metric_rows(metrics, 0, now_ms())
            self._log_batch(self.parent, rows, {"mlflow.note.content": note})
            self.artefacts.upload("the launch", send)
            self.client.set_terminated(self.parent, status)

    # -------------------------------------------------------------- MLflow's pages

    def add_table_view(self, trials: Iterable[Trial]) -> None:
        """Make the experiment's pages show the table of these trials."""
        trials = list(trials)
        rows = dict.fromkeys(views.row_of(trial) for trial in trials)
        folds = max([views.FOLDS, *(trial.fold + 1 for trial in trials)])
        self._add_tags(lambda known: views.experiment_tags(rows, known, folds))

    def write_table(self, trials: Mapping[str, Trial]) -> None:
        """Write the runs that are the rows of the table, from the delivered runs of trials."""
        scores = {
            trial_id: self.runs[trial_id].scores
            for trial_id in trials
            if trial_id in self.runs and self.runs[trial_id].delivered
        }
        write_rows(self.connection, table_rows(trials, scores))

    def add_search_view(self, parameters: Iterable[str]) -> None:
        """Make them show the points of a search over these parameters."""
        names = list(parameters)
        self._add_tags(lambda known: views.search_tags(names, known))

    def shared_views(self) -> list[str]:
        """The views that this experiment's pages can show."""
        with mlflow_errors():
            known = self.client.get_experiment(self.experiment_id).tags
        return [
            view
            for view in (views.VIEW, views.TRIALS, views.SEARCH)
            if f"{views.SHARED}{view}" in known
        ]

    def _add_tags(self, missing: Callable[[Mapping[str, str]], dict[str, str]]) -> None:
        with mlflow_errors():
            known = self.client.get_experiment(self.experiment_id).tags
            for name, value in missing(known).items():
                self.client.set_experiment_tag(self.experiment_id, name, value)

    # -------------------------------------------------------------- a trial

    def find_runs(self) -> None:
        """Read which trials have a run already."""
        found = []
        with mlflow_errors():
            token: str | None = None
            while True:
                page = self.client.search_runs(
                    [self.experiment_id],
                    filter_string="tags.`fssplat.kind` = 'trial'",
                    max_results=1000,
                    page_token=token,
                )
                found += page
                token = page.token
                if not token:
                    break
        for run in found:
            trial_id = run.data.tags.get("fssplat.trial_id", "")
            delivered = run.info.status == "FINISHED"
            if trial_id not in self.runs or delivered:
                self.runs[trial_id] = TrialRun(
                    run.info.run_id,
                    delivered,
                    described=bool(run.data.params),
                    diverged=run.data.tags.get("fssplat.state") == "diverged",
                    lacks_files=FILES_TAG in run.data.tags,
                    scores=_scores(run.data.metrics),
                )

    def start_run(self, trial: Trial, trial_id: str, tags: Mapping[str, str]) -> str:
        """Set the trial's run to RUNNING; make it, with its parameters, if it is missing.

        The run of a diverged training, and of a result that is computed again, is replaced: MLflow
        cannot take back steps.
        """
        with mlflow_errors():
            known = self.runs.get(trial_id)
            if known is not None and (known.diverged or known.delivered):
                self.client.delete_run(known.run_id)
                del self.runs[trial_id]
                known = None
            return self._resumed(known, trial) if known else self._made(trial, trial_id, tags)

    def _resumed(self, run: TrialRun, trial: Trial) -> str:
        self.client.update_run(run.run_id, status="RUNNING")
        if not run.described:  # it was interrupted between its creation and its parameters
            self._log_params(run.run_id, parameters(trial))
        if self.parent:
            self.client.set_tag(run.run_id, "mlflow.parentRunId", self.parent)
        return run.run_id

    def _made(self, trial: Trial, trial_id: str, tags: Mapping[str, str]) -> str:
        parent = {"mlflow.parentRunId": self.parent} if self.parent else {}
        run = self.client.create_run(
            self.experiment_id,
            tags=valid_tags({**trial_tags(trial, trial_id), **parent, **tags}),
            run_name=trial.title,
        )
        run_id: str = run.info.run_id
        self.runs[trial_id] = TrialRun(run_id, delivered=False, described=False)
        self.curve_steps[run_id] = set()
        self._log_params(run_id, parameters(trial))
        self.runs[trial_id] = TrialRun(run_id, delivered=False)
        return run_id

    def log_curve(self, run_id: str, points: Iterable[LossAtStep]) -> None:
        """Log losses at their steps, in batches; steps that MLflow has already are left out."""
        with mlflow_errors():
            known = self._logged_steps(run_id)
            fresh = {point.step: point for point in points if point.step not in known}
            if not fresh:
                return
            at_ms = now_ms()
            metrics = []
            for step, point in fresh.items():
                values = {f"loss/{name}": value for name, value in point.losses.items()}
                metrics += metric_rows({**values, "lr": point.lr}, step, at_ms)
            del self.curve_steps[run_id]  # if this fails, the steps are read from MLflow again
            self._log_batch(run_id, metrics, {})
            self.curve_steps[run_id] = known | fresh.keys()

    def log_usage(self, run_id: str, seconds: int, values: Mapping[str, float]) -> None:
        """Log what the run's job uses now, under `system/`, at the seconds since it started.

        The store does not keep it: values are lost while a server does not answer.
        """
        if self.spec.system_metrics:
            named = {f"system/{name}": value for name, value in values.items()}
            with mlflow_errors():
                self._log_batch(run_id, metric_rows(named, seconds, now_ms()), {})

    def deliver(
        self, trial: Trial, trial_id: str, result: Result, store: Store, tags: Mapping[str, str]
    ) -> None:
        """Log everything of a finished trial: curve, metrics, files, and last FINISHED.

        Files that cannot be uploaded do not stop the rest; the run gets a tag with the reason. Time
        stamps come from the result, so that a repeated delivery writes the same rows, which MLflow
        stores once.
        """
        known = self.runs.get(trial_id)
        if known is not None and known.delivered and known.lacks_files:
            run_id = known.run_id  # it stays FINISHED
        else:
            run_id = self.start_run(trial, trial_id, tags)
        with tempfile.TemporaryDirectory() as folder, mlflow_errors():
            scratch = Path(folder)
            job = str(result.about.get("job", ""))
            training = local_files(store, f"jobs/{job}", ["steps.parquet"], scratch / "training")
            if training is not None:
                self.log_curve(run_id, curve_of(training / "steps.parquet"))
            self._deliver_metrics(run_id, trial, result)

            def send() -> None:
                if training is not None:
                    steps = str(training / "steps.parquet")
                    self.client.log_artifact(run_id, steps, "training")
                self._send_files(run_id, trial_id, result, store, scratch)
                if self.spec.models:
                    show_model(self.connection, run_id, trial, result, store, scratch)

            arrived = self.artefacts.upload(trial_id, send)
            if not arrived:
                self.client.set_tag(run_id, FILES_TAG, f"missing: {self.artefacts.error}")
            elif known is not None and known.lacks_files:
                self.client.delete_tag(run_id, FILES_TAG)
            self.client.set_terminated(run_id, "FINISHED")
        scores = _scores(result.metrics)
        self.runs[trial_id] = TrialRun(
            run_id, delivered=True, lacks_files=not arrived, scores=scores
        )

    def _send_files(
        self, run_id: str, trial_id: str, result: Result, store: Store, scratch: Path
    ) -> None:
        files = local_files(store, trial_id, result.files, scratch / "trial")
        if files is not None:
            wanted = {Path(name).parts[0] for name in result.files}
            for path in sorted(files.iterdir()):
                if path.name in wanted:
                    self._log_artifact(run_id, path)

    def _deliver_metrics(self, run_id: str, trial: Trial, result: Result) -> None:
        at_ms = int(1000 * float(result.about.get("finished_at", 0.0))) or now_ms()
        tags = {"fssplat.state": "finished", "fssplat.notes": "; ".join(result.notes)}
        last_step = trial.training.steps or max(self.curve_steps.get(run_id, ()), default=0)
        metrics = dict(result.metrics)
        for name in ("miou", "fb_iou"):
            if name in metrics:
                metrics[f"{name}_points"] = 100 * metrics[name]
        if "miou" in metrics:
            metrics[views.fold_metric(trial.fold)] = metrics["miou"]
        self._log_batch(run_id, metric_rows(metrics, last_step, at_ms), tags)

    def end_without_result(self, trial_id: str, state: str, reason: str) -> None:
        """End the run of a trial that has no result, with its state and the reason."""
        known = self.runs.get(trial_id)
        if known is None or known.delivered:
            return
        with mlflow_errors():
            self._log_batch(known.run_id, [], {"fssplat.state": state, "fssplat.reason": reason})
            status = "KILLED" if state == "pending" else "FAILED"
            self.client.set_terminated(known.run_id, status)
        self.runs[trial_id] = replace(known, diverged=state == "diverged")

    # -------------------------------------------------------------- calls

    def _log_batch(self, run_id: str, metrics: list[Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        pending_tags = [RunTag(key, value) for key, value in valid_tags(tags).items()]
        for first in range(0, max(1, len(metrics)), METRICS_PER_BATCH):
            part = metrics[first : first + METRICS_PER_BATCH]
            if part or pending_tags:
                self.client.log_batch(run_id, metrics=part, tags=pending_tags, synchronous=True)
            pending_tags = []

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        rows = [Param(key, value) for key, value in params.items()]
        for first in range(0, len(rows), PARAMS_PER_BATCH):
            self.client.log_batch(run_id, params=rows[first : first + PARAMS_PER_BATCH])

    def _log_artifact(self, run_id: str, path: Path) -> None:
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), path.name)
        else:
            self.client.log_artifact(run_id, str(path))

    def _logged_steps(self, run_id: str) -> set[int]:
        """The steps for which a run has losses."""
        if run_id not in self.curve_steps:
            history = self.client.get_metric_history(run_id, "lr")  # the last value of each step
            self.curve_steps[run_id] = {item.step for item in history}
        return self.curve_steps[run_id]


def _scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that the rows of the table are made of."""
    return {name: metrics[name] for name in SCORES if name in metrics}
