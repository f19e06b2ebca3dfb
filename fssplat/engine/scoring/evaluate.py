"""Score one trial on its manifests: every episode once, every distinct image encoded once."""

import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import Tensor

from fssplat.common.whole_files import write_json, write_whole
from fssplat.data.episodes.manifest import Manifest
from fssplat.data.folds import novel_classes
from fssplat.data.index import Dataset
from fssplat.engine.device import best_device, peak_memory, reset_peak_memory
from fssplat.engine.events import Emit, EpisodesScored, TrialScored, ignore
from fssplat.engine.network import parameter_counts
from fssplat.engine.scoring.inputs import Inputs, Score
from fssplat.engine.scoring.kept.files import KeptFiles
from fssplat.engine.scoring.metrics import Metrics, over_seeds
from fssplat.engine.scoring.panels import chosen, draw, save, way_ious
from fssplat.engine.scoring.rows import Row, rows_of, sums_of, table_of
from fssplat.engine.scoring.scorer import ManifestEpisode, Rules, Scorer
from fssplat.engine.settings import Interrupted, Stop, never
from fssplat.experiment.trial import Trial
from fssplat.methods.base import FewShotSegmenter

PROGRESS = 50  # episodes between two reports

# an episode, its prediction [h, w], and its counts, see `metrics.overlap`
Shown = tuple[ManifestEpisode, Tensor, Tensor]


def evaluate(
    network: FewShotSegmenter,
    trial: Trial,
    dataset: Dataset,
    manifests: Mapping[int, Manifest],
    folder: Path,
    trial_id: str = "",
    emit: Emit = ignore,
    stop: Stop = never,
    device: torch.device | None = None,
    training: Mapping[str, float] | None = None,
) -> Metrics:
    """Metrics of a trial over its manifests (episode seed -> manifest), also left in the folder.

    The folder gets `episodes.parquet` (the counts every metric is made of), `details.parquet`,
    `predictions.parquet` (as `evaluation.keep` says), `panels/*.png`, `notes.json` and, last,
    `metrics.json`. `training` adds the training's cost. Raises Interrupted; there is no result
    then.
    """
    device = device or best_device()
    network.to(device).eval()
    network.before_evaluation()  # not timed: it is done once, however many episodes follow
    episodes = [
        ManifestEpisode(seed, index, drawn)
        for seed, manifest in manifests.items()
        for index, drawn in enumerate(manifest.episodes)
    ]
    scorer = Scorer(network, inputs_of(trial, dataset), rules_of(trial), trial.evaluation, device)
    panels = set(chosen(episodes, trial.evaluation.panels))
    masks = {"all": set(episodes), "panels": panels, "none": set()}[trial.evaluation.keep]
    kept = KeptFiles(trial, scorer.inputs, masks)
    try:
        rows, shown, cost = _score_all(scorer, episodes, panels, trial, trial_id, emit, stop, kept)
        kept.write(folder)
    finally:
        kept.close()
    metrics = {
        **summary(rows, trial, dataset),
        **cost,
        **(training or {}),
        **parameter_counts(network),
    }
    notes = notes_of(trial, manifests, training or {})
    table = table_of(rows)
    write_whole(folder / "episodes.parquet", lambda path: pq.write_table(table, path))
    for episode, prediction, counts in shown:
        ious = way_ious(counts)
        picture = draw(scorer.inputs, episode.drawn, trial.shot, prediction.numpy(), ious)
        save(picture, folder / "panels" / f"seed{episode.seed}-episode{episode.index}.png")
    write_json(folder / "notes.json", notes)
    write_json(folder / "metrics.json", metrics)
    emit(TrialScored(trial_id, metrics, folder, notes))
    return metrics


def _score_all(
    scorer: Scorer,
    episodes: list[ManifestEpisode],
    panels: set[ManifestEpisode],
    trial: Trial,
    trial_id: str,
    emit: Emit,
    stop: Stop,
    kept: KeptFiles,
) -> tuple[list[Row], list[Shown], Metrics]:
    """Rows of all episodes, what panels show, and the cost of the evaluation."""
    headline = trial.protocol.score[0]
    rows: list[Row] = []
    shown: list[Shown] = []
    reset_peak_memory(scorer.device)
    started = time.monotonic()
    for done, scored in enumerate(scorer.score(episodes), start=1):
        if stop():
            raise Interrupted(done - 1, "episode")
        rows += rows_of(scored, scorer.inputs, trial_id)
        kept.add(scored.episode, scored.predictions[headline])
        if scored.episode in panels:
            prediction, counts = scored.predictions[headline], scored.counts[headline]
            shown.append((scored.episode, prediction.cpu(), counts.cpu()))
        if done % PROGRESS == 0 or done == len(episodes):
            emit(EpisodesScored(trial_id, done, len(episodes)))
    seconds = time.monotonic() - started
    cost = {
        "episodes": float(len(episodes)),
        "episodes_per_s": len(episodes) / seconds if seconds else 0.0,
        "encoded_images": float(scorer.encoded_images),
        "peak_memory_bytes": float(peak_memory(scorer.device)),
    }
    return rows, sorted(shown, key=lambda item: (item[0].seed, item[0].index)), cost


def summary(rows: list[Row], trial: Trial, dataset: Dataset) -> Metrics:
    """miou, fb_iou and iou/<class> at the first scored size; miou_473 and so on at the others.

    `novel_classes` is their number, with or without episodes.
    """
    classes = novel_classes(dataset.info, trial.fold, trial.protocol, trial.train_on.name)
    names = {class_id: dataset.info.classes[class_id - 1] for class_id in classes}
    absent = trial.protocol.absent_class
    first, *others = trial.protocol.score
    metrics = over_seeds(sums_of(rows, first, classes), names, absent)
    for score in others:
        at_size = over_seeds(sums_of(rows, score, classes), {}, absent)
        metrics.update({f"{name}_{score}": value for name, value in at_size.items()})
    return {**metrics, "novel_classes": float(len(classes))}


def inputs_of(trial: Trial, dataset: Dataset) -> Inputs:
    """The protocol's geometry at its size, or at the method's own training size."""
    size = trial.protocol.size_on(trial.dataset.name) or trial.training.size
    return Inputs(dataset, trial.protocol.input, size)


def rules_of(trial: Trial) -> Rules:
    scores: tuple[Score, ...] = trial.protocol.score
    return Rules(trial.shot, scores, trial.protocol.ignores_border(trial.dataset.name))


def notes_of(
    trial: Trial, manifests: Mapping[int, Manifest], training: Mapping[str, float]
) -> tuple[str, ...]:
    """Remarks for the reader of the numbers, each once; `training` has the training's cost."""
    dropped = sorted({name for manifest in manifests.values() for name in manifest.dropped})
    notes = [f"left out, too few images: {', '.join(dropped)}"] if dropped else []
    if trial.training.checkpoint:
        notes.append(f"not trained here: weights of {trial.training.checkpoint}")
    elif trial.protocol.selection == "novel-best":
        notes.append("novel-best: the weights were chosen by the novel classes' own scores")
    planned = trial.training.micro_batch or trial.training.batch
    used = int(training.get("train_micro_batch", planned))
    if used < min(planned, trial.training.batch):  # a mean over a micro-batch is not the batch's
        notes.append(f"short of memory: trained {used} of {trial.training.batch} episodes at once")
    return tuple(dict.fromkeys([*notes, *(n for m in manifests.values() for n in m.notes)]))
