"""Run a job: train once, score every trial. The caller decides where it runs and, through `emit`,
where its progress is shown."""

from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.common.json_files import all_strings, is_number, json_object, json_value
from fssplat.data.episodes.manifest import Manifest
from fssplat.engine import checkpoint
from fssplat.engine.artefacts import ArtefactCache
from fssplat.engine.checkpoint import Header
from fssplat.engine.device import deterministic
from fssplat.engine.events import Emit, TrialScored, TrialSkipped, ignore
from fssplat.engine.job_data import JobData
from fssplat.engine.network import fresh_network
from fssplat.engine.predicting.model_files import save_model
from fssplat.engine.scoring.evaluate import evaluate
from fssplat.engine.scoring.metrics import Metrics
from fssplat.engine.settings import RunSettings, Stop, never
from fssplat.engine.training.loop import train
from fssplat.experiment.trial import Job, Trial
from fssplat.methods.base import FewShotSegmenter

__all__ = ["JobData", "run_job", "score_checkpoint"]


def run_job(
    job: Job,
    data: JobData,
    folder: Path,
    emit: Emit = ignore,
    stop: Stop = never,
    settings: RunSettings | None = None,
) -> dict[str, Metrics]:
    """Train once on the base classes, or take the weights that `training.checkpoint` names, then
    score every trial that shares them.

    `folder` keeps the training and `trials/<trial_id>/`, so a second call resumes an interrupted
    first one. A trial whose fold has no episodes is emitted as TrialSkipped and has no metrics.
    Raises Interrupted, Diverged, or InputError.
    """
    settings = settings or RunSettings()
    manifests = trials_with_episodes(job, data, emit)
    if not manifests:
        return {}
    with deterministic(settings.deterministic):
        network = prepared_network(job.first, data, settings)
        given = job.first.training.checkpoint
        if given:
            load_given_weights(network, job.first, Path(given))
        best = None if given else data.selection(job.first, settings.device)
        trained = train(network, job.first, data, folder, emit, stop, settings, job.key, best)
        save_model(network, job.first, folder)
        results = {}
        for trial_id, (trial, episodes) in manifests.items():
            trial_folder = folder / "trials" / trial_id
            network.take_scoring_options(trial.method.options)
            results[trial_id] = finished_result(trial_folder, trial_id, emit) or evaluate(
                network, trial, data.dataset(trial), episodes, trial_folder, trial_id,
                emit, stop, settings.device, trained.state["cost"],
            )  # fmt: skip
    return results


def score_checkpoint(
    trial: Trial,
    weights: Path,
    data: JobData,
    folder: Path,
    emit: Emit = ignore,
    settings: RunSettings | None = None,
) -> Metrics:
    """Score given weights, of a job or imported from a public implementation, under a trial.

    Raises InputError if they are of another method or backbone, or the trial has no episodes.
    """
    settings = settings or RunSettings()
    episodes = data.manifests(trial)
    reasons = [m.skipped_reason for m in episodes.values() if m.skipped_reason]
    if reasons:
        raise InputError(f"{trial.title}: {reasons[0]}. Choose another fold or a lower shot.")
    with deterministic(settings.deterministic):
        network = prepared_network(trial, data, settings)
        load_given_weights(network, trial, weights)
        network.take_scoring_options(trial.method.options)
        dataset = data.dataset(trial)
        return evaluate(
            network, trial, dataset, episodes, folder, emit=emit, device=settings.device
        )


def trials_with_episodes(
    job: Job, data: JobData, emit: Emit
) -> dict[str, tuple[Trial, dict[int, Manifest]]]:
    """Trial id -> the trial and its manifests; trials without episodes are emitted as skipped."""
    result = {}
    for trial_id, trial in zip(job.trial_ids, job.trials, strict=True):
        episodes = data.manifests(trial)
        reasons = [m.skipped_reason for m in episodes.values() if m.skipped_reason]
        if reasons:
            emit(TrialSkipped(trial_id, reasons[0]))
        else:
            result[trial_id] = (trial, episodes)
    return result


def load_given_weights(network: FewShotSegmenter, trial: Trial, weights: Path) -> None:
    """Fill a network. Raises InputError if the weights are of another method or backbone."""
    found = checkpoint.load(weights)
    names = Header(found.header.key, trial.method.name, trial.backbone.name, 0, 0)
    checkpoint.check_owner(found.header, names, str(weights))
    checkpoint.load_weights(network, found, str(weights))


def prepared_network(trial: Trial, data: JobData, settings: RunSettings) -> FewShotSegmenter:
    """The network before its first step, prepared from the base images as its method needs.

    Options that only scoring reads have their defaults, so that all trials of a job get the same.
    """
    trained = trial.model_copy(update={"method": trial.trained_method})
    network = fresh_network(trained, settings.device)
    chosen = settings.artefacts
    artefacts = ArtefactCache(chosen) if chosen is not None else ArtefactCache.default()
    network.prepare(data.base_images(trial), artefacts)
    return network


def finished_result(trial_folder: Path, trial_id: str, emit: Emit) -> Metrics | None:
    """The result of a trial that an earlier, interrupted call finished.

    Returns None if there is none or its files are damaged.
    """
    try:  # metrics.json is written last
        metrics: Metrics = json_object((trial_folder / "metrics.json").read_bytes())
        notes = json_value((trial_folder / "notes.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not all(map(is_number, metrics.values())) or not all_strings(notes):
        return None
    emit(TrialScored(trial_id, metrics, trial_folder, tuple(notes)))
    return metrics
