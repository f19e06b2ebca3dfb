"""MLflow as a listener of a launch: runs for its trials, and a run for the launch itself."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from fssplat.common.passwords import hidden, hidden_in
from fssplat.common.printing import counted
from fssplat.experiment.schema import NO_TRACKING, ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.results import environment
from fssplat.results.launch_listener import LaunchInfo
from fssplat.results.notes import Note
from fssplat.results.store import Store
from fssplat.tracking.dead_launches import DeadLaunches
from fssplat.tracking.delivery import Delivery, sync
from fssplat.tracking.runs import open_tracking
from fssplat.tracking.server.checks import check_tracking, refused
from fssplat.tracking.server.connection import MlflowError, tracking_uri
from fssplat.tracking.views import address

WriteReport = Callable[[LaunchInfo, Path], Sequence[Path]]  # into a folder; raises nothing
NOTE_LENGTH = 4000  # letters of a table in the description
# files of a launch in the store, which become artefacts of its run
FILES = ("experiment.json", "environment.json", "experiment.yaml", "table.txt")


class MlflowListener:
    """A `LaunchListener`. Does nothing if the experiment has `tracking: none`."""

    def __init__(self, report: WriteReport | None = None) -> None:
        """`report` writes the files that become the artefact `report` of the launch's run."""
        self._report = report
        self._delivery: Delivery | None = None
        self._info: LaunchInfo | None = None
        self._dead: DeadLaunches | None = None

    def check(self, experiment: ExperimentSpec, store: Store, make: bool = True) -> str:
        """Raises InputError as `check_tracking`."""
        return check_tracking(experiment, store, make)

    def deliver_finished(self, info: LaunchInfo) -> None:
        """Deliver the finished trials that MLflow lacks."""
        if info.experiment.tracking != NO_TRACKING:
            deliver(
                info.experiment,
                info.store,
                info.trials,
                info.fingerprints,
                info.warn,
                info.sync_command,
            )

    def open(self, info: LaunchInfo) -> None:
        """Connect, start the launch's run, deliver earlier results. Raises InputError.

        A server that does not answer is reported in one line; the launch goes on without it.
        """
        if info.experiment.tracking == NO_TRACKING:
            return
        uri = tracking_uri(info.experiment.tracking, info.store)
        tags = tags_of(info.fingerprints, info.launch, info.commit)
        try:
            tracking = open_tracking(uri, info.experiment.name, info.experiment.mlflow)
            about = {"mlflow.source.git.commit": info.commit}
            tracking.start_launch(info.launch, info.experiment.name, about)
        except MlflowError as error:
            if not error.away:
                raise refused(uri, error) from error
            info.warn(f"{error.shown}; `{info.sync_command}` delivers later.")
            return
        info.warn(_page_line(info, uri, tracking.experiment_id))
        try:
            self._dead = DeadLaunches(tracking, info.store)
            self._dead.end_runs()
            sync(tracking, info.store, info.trials, tags)
        except MlflowError as error:  # about results of earlier launches; this one's may arrive
            info.warn(f"MLflow lacks earlier results ({error}).")
        self._info = info
        self._delivery = Delivery(tracking, info.store, info.trials, tags, info.warn)

    def on_note(self, note: Note) -> None:
        """Pass the note to the delivery thread."""
        if self._delivery is not None:
            self._delivery.on_note(note)

    def close(self, stopped: bool) -> None:
        """Deliver all that waits, end the launch's run, report what could not be delivered."""
        delivery, info = self._delivery, self._info
        if delivery is None or info is None:
            return
        delivery.close()
        counts = [status.state for status in info.store.states(info.trials).values()]
        metrics = {f"trials/{state}": float(counts.count(state)) for state in set(counts)}
        with TemporaryDirectory() as folder, suppress(MlflowError):
            paths = _files_of(info, Path(folder))
            table = Path(folder) / "table.txt"
            note = _note(info.command, table.read_text("utf-8") if table in paths else "")
            status = "KILLED" if stopped else "FINISHED"
            report = self._report(info, Path(folder)) if self._report and not stopped else ()
            delivery.tracking.end_launch(status, metrics, paths, note, report)
        if self._dead is not None:
            with suppress(MlflowError):
                self._dead.end_runs()
        if delivery.missed:
            info.warn(
                f"MLflow lacks {counted(len(delivery.missed), 'result')}; `{info.sync_command}` "
                "delivers later."
            )
        problem = delivery.tracking.artefacts.problem(f"`{info.sync_command}`")
        if problem:
            info.warn(problem)


def _page_line(info: LaunchInfo, uri: str, experiment_id: str) -> str:
    """Where to see the results: the page of a server, or the command that serves pages."""
    if uri.startswith("http"):
        return f"MLflow: {hidden(uri).rstrip('/')}{address(experiment_id)}"
    return f"MLflow's pages: {info.ui_command}"


def _note(command: str, table: str) -> str:
    """The description of a launch's run, in Markdown; a table that is too long is left out."""
    shown = f"```\n{table}```\n" if len(table) < NOTE_LENGTH else "The table is in table.txt.\n"
    return f"```sh\n{command}\n```\n\n" + (shown if table else "")


def _files_of(info: LaunchInfo, folder: Path) -> list[Path]:
    """Copies of the files that describe the launch, and of its table; files that the store lacks
    are left out."""
    (folder / "command.sh").write_text(f"{info.command}\n", encoding="utf-8")
    found = [folder / "command.sh"]
    for name in FILES:
        content = info.store.files.read(f"launches/{info.launch}/{name}")
        if content is not None:
            found.append(folder / name)
            found[-1].write_bytes(content)
    resolved = yaml.safe_dump(
        hidden_in(info.experiment.model_dump(mode="json")), sort_keys=False, allow_unicode=True
    )
    (folder / "resolved.yaml").write_text(resolved, encoding="utf-8")
    return [*found, folder / "resolved.yaml"]


def deliver(
    experiment: ExperimentSpec,
    store: Store,
    trials: Mapping[str, Trial],
    fingerprints: Mapping[str, str],
    warn: Callable[[str], None],
    command: str = "fssplat sync",
) -> int | None:
    """Deliver the finished trials that MLflow lacks, and end the runs of killed launches.

    Returns how many those were, or None if MLflow did not take all of them. `command` delivers the
    others later. Raises InputError for an address that MLflow cannot use, and for `tracking: none`.
    """
    uri = tracking_uri(experiment.tracking, store)
    check_tracking(experiment, store)
    try:
        tracking = open_tracking(uri, experiment.name, experiment.mlflow)
        DeadLaunches(tracking, store).end_runs()
        count = sync(tracking, store, trials, tags_of(fingerprints, "", environment.commit()))
    except MlflowError as error:
        warn(f"{error.shown}; results stay in the store until `{command}`.")
        return None
    problem = tracking.artefacts.problem(f"`{command}`")
    if problem:
        warn(problem)
    return None if problem else count


def tags_of(
    fingerprints: Mapping[str, str], launch: str, commit: str
) -> Callable[[Trial], dict[str, str]]:
    """The tags of a trial's run that are not part of its spec."""

    def tags(trial: Trial) -> dict[str, str]:
        return {
            "fssplat.dataset_fingerprint": fingerprints.get(trial.dataset.name, ""),
            "fssplat.git_commit": commit,
            "fssplat.launch": launch,
            "mlflow.source.git.commit": commit,
        }

    return tags
