"""Shows a finished training as an MLflow model in the runs of all its trials."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fssplat.common.plain_names import plain_path
from fssplat.experiment.trial import Trial
from fssplat.results.records import Result
from fssplat.results.store import Store
from fssplat.tracking import views
from fssplat.tracking.names import model_name, trial_tags, valid_tags
from fssplat.tracking.server.connection import Connection


def show_model(
    connection: Connection, run_id: str, trial: Trial, result: Result, store: Store, scratch: Path
) -> None:
    """Show the trial's model in its run. The first trial of a training makes the model.

    A trial without a training has no model.
    """
    if trial.training.steps == 0 and not trial.training.checkpoint:
        return
    from fssplat.tracking.models import model_key

    job = str(result.about.get("job", ""))
    about = {
        "fssplat.kind": "model",
        "fssplat.model": model_key(trial, job),
        "fssplat.job": job,
        "fssplat.git_commit": str(result.about.get("commit", "")),
    }
    model_id = _existing_model(connection, about["fssplat.model"])
    if model_id is None:
        source = _training_files(store, job, scratch / "files")
        if source is None:
            return
        model_id = _new_model(connection, run_id, trial, about, source, scratch / "model")
    from mlflow.entities import LoggedModelOutput

    shown = connection.client.get_run(run_id).outputs
    if model_id not in {output.model_id for output in shown.model_outputs}:
        connection.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _existing_model(connection: Connection, key: str) -> str | None:
    """The id of the complete model; models that an interrupted delivery left are deleted."""
    found = connection.client.search_logged_models(
        [connection.experiment_id], filter_string=f"tags.`fssplat.model` = '{key}'"
    )
    complete: str | None = None
    for model in found:
        if str(model.status) == "READY":
            complete = model.model_id
        else:
            connection.client.delete_logged_model(model.model_id)
    return complete


def _new_model(
    connection: Connection,
    run_id: str,
    trial: Trial,
    about: Mapping[str, str],
    source: Path,
    scratch: Path,
) -> str:
    """Log the weights in `source` with the trial's way of scoring; returns the model's id."""
    from mlflow.models import Model

    from fssplat.tracking.models import write_model

    client = connection.client
    shared = {k: v for k, v in trial_tags(trial, "").items() if k not in ("shot", views.ROW)}
    made = client.create_logged_model(
        connection.experiment_id, model_name(trial), run_id, tags=valid_tags({**shared, **about})
    )
    model_id: str = made.model_id
    card = Model(run_id=run_id, model_uuid=model_id, model_id=model_id)
    write_model(scratch, source, trial, card, about)
    client.log_model_artifacts(model_id, str(scratch))
    client.finalize_logged_model(model_id, "READY")
    return model_id


def _training_files(store: Store, job: str, scratch: Path) -> Path | None:
    """The folder of a finished training's files; returns None if the store lacks one of them."""
    from fssplat.engine.predicting.model_files import FILES, MODEL, WEIGHTS

    found = local_files(store, f"jobs/{job}", FILES, scratch)
    whole = found is not None and all((found / name).is_file() for name in (MODEL, WEIGHTS))
    return found if whole else None


def local_files(store: Store, folder: str, names: Sequence[str], scratch: Path) -> Path | None:
    """A local folder with these files of the store; returns None if the store has none of them.

    Raises InputError for names that would leave the store: a result names its job and its files.
    """
    if folder == "jobs/":  # the result names no job
        return None
    plain_path(folder, f"store {store.address}")
    if store.folder is not None:
        local = store.folder / folder
        return local if any((local / name).is_file() for name in names) else None
    got = [store.files.get(f"{folder}/{name}", scratch / name) for name in names]
    return scratch if any(got) else None
