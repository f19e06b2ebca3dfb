"""What MLflow hears: one experiment per YAML, a parent run per launch, a child run per trial.

The store is the truth and MLflow mirrors it, from the driver alone. A run is FINISHED only once
everything of its trial has arrived, so whatever is not FINISHED is delivered again by `sync`.
"""

import contextlib
import errno
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.locks import lock
from fssplat.common.passwords import hidden, require_password
from fssplat.experiment.grid import Trial
from fssplat.experiment.schema import NO_TRACKING, MlflowSpec
from fssplat.results.files import try_to_write
from fssplat.results.notes import LossAtStep, curve_stride
from fssplat.results.store import Result, Store
from fssplat.tracking import views

METRICS_PER_BATCH = 1000  # MLflow's own limits
PARAMS_PER_BATCH = 100
PARAM_LENGTH = 6000
TAG_LENGTH = 5000
SCHEMES = ("sqlite", "postgresql", "mysql", "http", "https", "databricks")
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a server that is away is asked again by `sync`
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Away(Exception):  # noqa: N818 - a state of the server, not a fault here
    """The tracking server does not answer; results stay in the store until it does."""


@dataclass(frozen=True)
class Known:
    """A trial's run as MLflow has it."""

    run_id: str
    delivered: bool
    described: bool = True  # has its parameters
    diverged: bool = False


@dataclass
class Tracking:
    """One MLflow experiment, opened; every call may raise Away."""

    uri: str
    experiment_id: str
    client: Any
    parent: str = ""  # run id of the launch
    wanted: MlflowSpec = field(default_factory=MlflowSpec)
    runs: dict[str, Known] = field(default_factory=dict)  # trial id -> its run
    logged: dict[str, set[int]] = field(default_factory=dict)  # run id -> the steps of its curve

    # -------------------------------------------------------------- a launch

    def start_launch(self, launch: str, name: str, about: Mapping[str, str]) -> None:
        """The parent run that this launch's trials hang under."""
        tags = {"fssplat.kind": "launch", "fssplat.launch": launch, **about}
        with away():
            run = self.client.create_run(
                self.experiment_id, tags=_tags(tags), run_name=f"{name} {launch}"
            )
        self.parent = run.info.run_id

    def end_launch(self, status: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """Close the parent run with its totals, the experiment and the environment."""
        with away():
            for path in files:
                self.client.log_artifact(self.parent, str(path))
            self._batch(self.parent, _metrics(metrics, 0, _now()), {})
            self.client.set_terminated(self.parent, status)

    def arrange(self, trials: Iterable[Trial]) -> None:
        """Let the experiment's pages open on the table of these trials."""
        rows = dict.fromkeys(views.row_of(trial) for trial in trials)
        self._tag_experiment(lambda known: views.experiment_tags(rows, known))

    def arrange_search(self, parameters: Iterable[str]) -> None:
        """Let them open on the points of a search over these parameters."""
        names = list(parameters)
        self._tag_experiment(lambda known: views.search_tags(names, known))

    def shared_views(self) -> list[str]:
        """The views that this experiment's pages can open on."""
        with away():
            known = self.client.get_experiment(self.experiment_id).tags
        return [view for view in (views.VIEW, views.SEARCH) if f"{views.SHARED}{view}" in known]

    def _tag_experiment(self, lacking: Callable[[Mapping[str, str]], dict[str, str]]) -> None:
        with away():
            known = self.client.get_experiment(self.experiment_id).tags
            for name, value in lacking(known).items():
                self.client.set_experiment_tag(self.experiment_id, name, value)

    # -------------------------------------------------------------- a trial

    def find(self) -> None:
        """Learn which trials have a run already."""
        with away():
            token: str | None = None
            while True:
                page = self.client.search_runs(
                    [self.experiment_id],
                    filter_string="tags.`fssplat.kind` = 'trial'",
                    max_results=1000,
                    page_token=token,
                )
                for run in page:
                    trial_id = run.data.tags.get("fssplat.trial_id", "")
                    known = Known(
                        run.info.run_id,
                        delivered=run.info.status == "FINISHED",
                        described=bool(run.data.params),
                        diverged=run.data.tags.get("fssplat.state") == "diverged",
                    )
                    if trial_id not in self.runs or known.delivered:
                        self.runs[trial_id] = known
                token = page.token
                if not token:
                    return

    def begin(self, trial: Trial, trial_id: str, tags: Mapping[str, str]) -> str:
        """The trial's run, running: the one it has had, or a new one with its parameters.

        One that diverged is not had again: its training starts anew, and MLflow takes no step back.
        """
        with away():
            known = self.runs.get(trial_id)
            if known is not None and known.diverged:
                self.client.delete_run(known.run_id)
                del self.runs[trial_id]
                known = None
            if known is not None:
                self.client.update_run(known.run_id, status="RUNNING")
                if not known.described:  # cut between its creation and its parameters
                    self._params(known.run_id, parameters(trial))
                if self.parent:
                    self.client.set_tag(known.run_id, "mlflow.parentRunId", self.parent)
                return known.run_id
            parent = {"mlflow.parentRunId": self.parent} if self.parent else {}
            run = self.client.create_run(
                self.experiment_id,
                tags=_tags({**trial_tags(trial, trial_id), **parent, **tags}),
                run_name=trial.title,
            )
            run_id: str = run.info.run_id
            self.runs[trial_id] = Known(run_id, delivered=False, described=False)
            self.logged[run_id] = set()
            self._params(run_id, parameters(trial))
            self.runs[trial_id] = Known(run_id, delivered=False)
        return run_id

    def curve(self, run_id: str, points: Iterable[LossAtStep]) -> None:
        """Losses at their steps, in batches; steps that MLflow has are left out."""
        with away():
            known = self._steps(run_id)
            fresh = {point.step: point for point in points if point.step not in known}
            if not fresh:
                return
            at = _now()
            metrics = []
            for step, point in fresh.items():
                values = {f"loss/{name}": value for name, value in point.losses.items()}
                metrics += _metrics({**values, "lr": point.lr}, step, at)
            del self.logged[run_id]  # if this fails, MLflow is asked again what has arrived
            self._batch(run_id, metrics, {})
            self.logged[run_id] = known | fresh.keys()

    def usage(self, run_id: str, seconds: int, values: Mapping[str, float]) -> None:
        """What the run's job uses now, under `system/`, at the seconds since it started.

        Told while the job runs and not kept in the store: what a silent server misses is lost.
        """
        if self.wanted.system_metrics:
            named = {f"system/{name}": value for name, value in values.items()}
            with away():
                self._batch(run_id, _metrics(named, seconds, _now()), {})

    def deliver(
        self, trial: Trial, trial_id: str, result: Result, store: Store, tags: Mapping[str, str]
    ) -> None:
        """Everything of a finished trial: curve, files, metrics, and last the word FINISHED.

        Time stamps come from the result, so that a delivery cut short and repeated writes the
        same rows, which MLflow keeps once.
        """
        run_id = self.begin(trial, trial_id, tags)
        job = str(result.about.get("job", ""))
        with tempfile.TemporaryDirectory() as scratch, away():
            steps = _fetch(store, f"jobs/{job}", ["steps.parquet"], Path(scratch) / "training")
            if steps is not None:
                self.curve(run_id, curve_of(steps / "steps.parquet"))
                self.client.log_artifact(run_id, str(steps / "steps.parquet"), "training")
            files = _fetch(store, trial_id, result.files, Path(scratch) / "trial")
            if files is not None:
                for path in sorted(files.iterdir()):
                    if path.name in {Path(name).parts[0] for name in result.files}:
                        self._artifact(run_id, path)
            self._model(run_id, trial, result, store, Path(scratch))
            at = int(1000 * float(result.about.get("finished_at", 0.0))) or _now()
            notes = {"fssplat.state": "finished", "fssplat.notes": "; ".join(result.notes)}
            last_step = trial.training.steps or max(self.logged.get(run_id, ()), default=0)
            metrics = dict(result.metrics)
            if "miou" in metrics:
                metrics[views.fold_metric(trial.fold)] = metrics["miou"]
            self._batch(run_id, _metrics(metrics, last_step, at), notes)
            self.client.set_terminated(run_id, "FINISHED")
        self.runs[trial_id] = Known(run_id, delivered=True)

    def give_up(self, trial_id: str, state: str, reason: str) -> None:
        """A trial that ended without numbers: its state and why."""
        known = self.runs.get(trial_id)
        if known is None or known.delivered:
            return
        with away():
            tags = {"fssplat.state": state, "fssplat.reason": reason}
            self._batch(known.run_id, [], tags)
            status = "KILLED" if state == "pending" else "FAILED"
            self.client.set_terminated(known.run_id, status)
        self.runs[trial_id] = replace(known, diverged=state == "diverged")

    # -------------------------------------------------------------- calls

    def _batch(self, run_id: str, metrics: list[Any], tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        marks = [RunTag(key, value) for key, value in _tags(tags).items()]
        for first in range(0, max(1, len(metrics)), METRICS_PER_BATCH):
            part = metrics[first : first + METRICS_PER_BATCH]
            if part or marks:
                self.client.log_batch(run_id, metrics=part, tags=marks, synchronous=True)
            marks = []

    def _params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        rows = [Param(key, value) for key, value in params.items()]
        for first in range(0, len(rows), PARAMS_PER_BATCH):
            self.client.log_batch(run_id, params=rows[first : first + PARAMS_PER_BATCH])

    def _model(
        self, run_id: str, trial: Trial, result: Result, store: Store, scratch: Path
    ) -> None:
        """The training behind a trial as an MLflow model: made once, shown in all its runs."""
        untrained = trial.training.steps == 0 and not trial.training.checkpoint
        if not self.wanted.models or untrained:
            return
        from fssplat.tracking.models import model_key

        job = str(result.about.get("job", ""))
        about = {
            "fssplat.kind": "model",
            "fssplat.model": model_key(trial, job),
            "fssplat.job": job,
            "fssplat.git_commit": str(result.about.get("commit", "")),
        }
        model_id = self._known_model(about["fssplat.model"])
        if model_id is None:
            source = _training(store, job, scratch / "files")
            if source is None:
                return
            model_id = self._new_model(run_id, trial, about, source, scratch / "model")
        from mlflow.entities import LoggedModelOutput

        shown = self.client.get_run(run_id).outputs
        if model_id not in {output.model_id for output in shown.model_outputs}:
            self.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])

    def _known_model(self, key: str) -> str | None:
        """The model if it is whole; what a delivery that was cut has left is removed."""
        found = self.client.search_logged_models(
            [self.experiment_id], filter_string=f"tags.`fssplat.model` = '{key}'"
        )
        whole: str | None = None
        for model in found:
            if str(model.status) == "READY":
                whole = model.model_id
            else:
                self.client.delete_logged_model(model.model_id)
        return whole

    def _new_model(
        self, run_id: str, trial: Trial, about: Mapping[str, str], source: Path, scratch: Path
    ) -> str:
        """Log the weights of `source` as they score this trial; the model's id."""
        from mlflow.models import Model

        from fssplat.tracking.models import write_model

        shared = {k: v for k, v in trial_tags(trial, "").items() if k not in ("shot", views.ROW)}
        made = self.client.create_logged_model(
            self.experiment_id, _model_name(trial), run_id, tags=_tags({**shared, **about})
        )
        model_id: str = made.model_id
        card = Model(run_id=run_id, model_uuid=model_id, model_id=model_id)
        write_model(scratch, source, trial, card, about)
        self.client.log_model_artifacts(model_id, str(scratch))
        self.client.finalize_logged_model(model_id, "READY")
        return model_id

    def _artifact(self, run_id: str, path: Path) -> None:
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), path.name)
        else:
            self.client.log_artifact(run_id, str(path))

    def _steps(self, run_id: str) -> set[int]:
        """The steps that a run's curve has."""
        if run_id not in self.logged:
            history = self.client.get_metric_history(run_id, "lr")  # the last value of each step
            self.logged[run_id] = {item.step for item in history}
        return self.logged[run_id]


# ------------------------------------------------------------------ opening


def tracking_uri(setting: str, store: Store) -> str:
    """The MLflow address: the experiment's, MLFLOW_TRACKING_URI, or SQLite in the store.

    Always absolute, since a relative one would mean another database in another folder.
    Raises InputError for an address that MLflow cannot use here, and where tracking is off.
    """
    if setting == NO_TRACKING:
        raise InputError(
            "tracking none: MLflow is off for this experiment. Leave `tracking` out for SQLite in "
            "the store, or give an address, e.g. --set tracking=sqlite:///<file>.db."
        )
    uri = setting or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        folder = store.folder or Path("results").absolute()
        return f"sqlite:///{folder / 'mlflow.db'}"
    if uri.split(":", 1)[0].split("+", 1)[0] not in SCHEMES or ":" not in uri:
        raise InputError(
            f"tracking {hidden(uri)}: not an address for MLflow. Give sqlite:///<file>.db, "
            "postgresql://..., or http://<server>; its plain-file store is retired."
        )
    require_password("tracking", uri)
    path = sqlite_path(uri)
    return f"sqlite:///{path}" if path is not None else uri


def open_tracking(uri: str, experiment: str, wanted: MlflowSpec | None = None) -> Tracking:
    """Connect, with database and experiment made where missing.

    Raises InputError for a database that cannot be written, Away for a server that is silent.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import logging

    for noisy in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    path = sqlite_path(uri)
    if path is None:
        return replace(_connect(uri, experiment, artifacts=None), wanted=wanted or MlflowSpec())
    with _locked(path):  # MLflow's schema cannot be made by two processes at once
        try:
            tracking = _connect(uri, experiment, artifacts=path.parent / "mlartifacts")
            _use_wal(path)
        except Away as error:
            raise InputError(
                f"tracking {uri}: cannot be used ({error}). Check the file and its folder, or "
                "give another with --set tracking=sqlite:///<file>.db."
            ) from error
    return replace(tracking, wanted=wanted or MlflowSpec())


def check_writable(uri: str, make: bool = True) -> None:
    """Raises InputError for a database file that cannot be written; servers are not asked.

    Where the file's folder and lock are not to be made, it is tried without them.
    """
    path = sqlite_path(uri)
    if path is None:
        return
    with _locked(path) if make else _writable(path):
        if not make:
            try_to_write(path.parent)


def sqlite_path(uri: str) -> Path | None:
    """The database file of a sqlite address, absolute; None for any other address."""
    if not uri.startswith("sqlite:"):
        return None
    return Path(uri.removeprefix("sqlite:").removeprefix("///")).expanduser().absolute()


def _connect(uri: str, experiment: str, artifacts: Path | None) -> Tracking:
    with away():
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            place = artifacts.as_uri() if artifacts is not None else None
            with contextlib.suppress(MlflowException):  # another launch made it meanwhile
                client.create_experiment(experiment, artifact_location=place)
            found = client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
    if found is None:
        raise Away(f"experiment {experiment} could not be made")
    return Tracking(uri, found.experiment_id, client)


@contextlib.contextmanager
def away() -> Iterator[None]:
    """Whatever goes wrong with MLflow is Away: a result is never lost or late because of it."""
    try:
        yield
    except Away:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise Away(f"{type(error).__name__}: {hidden(lines[0]) if lines else ''}"[:300]) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with a database that can be written. Raises InputError."""
    with _writable(path), lock(path.with_name(f"{path.name}.lock")):
        yield


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Raises InputError for a database that cannot be written, and for what goes wrong within.

    The database file itself is never opened here: closing it would drop SQLite's locks on it, which
    belong to the process, and another process could then remove the log that ours writes to.
    """
    try:
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        yield
    except OSError as error:
        raise InputError(
            f"tracking sqlite:///{path}: cannot be written ({error.strerror or error}). "
            "Give another with --set tracking=sqlite:///<file>.db."
        ) from error


def _use_wal(path: Path) -> None:
    """Readers (the UI) and the writer no longer wait for each other; the file remembers it."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")


# ------------------------------------------------------------------ what is said


def trial_tags(trial: Trial, trial_id: str) -> dict[str, str]:
    """What a run is found and grouped by."""
    return {
        "fssplat.kind": "trial",
        "fssplat.trial_id": trial_id,
        "dataset": trial.dataset.name,
        "fold": str(trial.fold),
        "shot": str(trial.shot),
        views.ROW: views.row_of(trial),
        "method": trial.method.label,
        "backbone": trial.backbone.name,
        "seed": str(trial.training.seed),
        "protocol": f"{trial.protocol.name} {trial.protocol.hash}",
    }


def _model_name(trial: Trial) -> str:
    """Without the letters that MLflow refuses in a model's name."""
    parts = (trial.method.label, trial.backbone.name, trial.train_on.name, f"fold-{trial.fold}")
    return re.sub(r"[^\w\-]+", "-", " ".join(parts))


def parameters(trial: Trial) -> dict[str, str]:
    """The resolved spec, flat: `training.lr` -> `0.0025`, written the same way every time."""
    return {key: value[:PARAM_LENGTH] for key, value in flattened(trial.canonical())}


def flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and canonical strings of all leaves; a list is one leaf."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flattened(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        yield _name(prefix), text


def curve_of(path: Path) -> list[LossAtStep]:
    """The thinned losses of a training's Parquet file, at the same steps as shown live."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pylist()
    if not rows:
        return []
    last = int(rows[-1]["step"])
    stride = curve_stride(last)
    shown = [row for row in rows if row["step"] % stride == 0 or row["step"] in (1, last)]
    names = [name for name in rows[0] if name not in ("step", "lr")]
    return [
        LossAtStep(int(row["step"]), {name: row[name] for name in names}, row["lr"])
        for row in shown
    ]


def _metrics(values: Mapping[str, float], step: int, at: int) -> list[Any]:
    from mlflow.entities import Metric

    return [
        Metric(_name(name), value if math.isfinite(value) else math.nan, at, step)
        for name, value in sorted(values.items())
    ]


def _name(text: str) -> str:
    """Letters that MLflow takes in a key."""
    return re.sub(r"[^\w\-. /:]", "_", text)


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value[:TAG_LENGTH] for key, value in tags.items() if value}


def _now() -> int:
    return int(time.time() * 1000)


def _training(store: Store, job: str, scratch: Path) -> Path | None:
    """The folder of a finished training's files; None where the store has not got them."""
    from fssplat.engine.predict import FILES, MODEL, WEIGHTS

    found = _fetch(store, f"jobs/{job}", FILES, scratch)
    whole = found is not None and all((found / name).is_file() for name in (MODEL, WEIGHTS))
    return found if whole else None


def _fetch(store: Store, folder: str, names: Sequence[str], scratch: Path) -> Path | None:
    """A folder on this disk with these files of the store; None where none of them is there."""
    if store.folder is not None:
        place = store.folder / folder
        return place if any((place / name).is_file() for name in names) else None
    got = [store.files.get(f"{folder}/{name}", scratch / name) for name in names]
    return scratch if any(got) else None


# ------------------------------------------------------------------ looking


def serve(uri: str, port: int) -> int:
    """MLflow's own pages over a database, on loopback, until Ctrl-C. Returns its exit code."""
    path = sqlite_path(uri)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    if path is not None:
        command += ["--default-artifact-root", (path.parent / "mlartifacts").as_uri()]
    environment = {**os.environ, **QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment["MLFLOW_BACKEND_STORE_URI"] = uri  # everybody may read a command line's password
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first
        signal.signal(number, signal.default_int_handler)
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)  # the server's own workers with it
        process.wait()
        return 0
