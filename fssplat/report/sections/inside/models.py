"""Opens the network of a finished trial from its store, and the data set that it was scored on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from fssplat.common.errors import InputError
from fssplat.common.plain_names import is_plain_path
from fssplat.data.episodes.manifest import Manifest, manifest
from fssplat.data.index import Dataset
from fssplat.engine.job_data import JobData, open_dataset
from fssplat.engine.predicting.inner_maps import Inside
from fssplat.engine.predicting.model_files import EVALUATION, FILES, load_network
from fssplat.engine.random_state import kept_random_state
from fssplat.engine.run import prepared_network
from fssplat.engine.scoring.evaluate import inputs_of
from fssplat.engine.scoring.scorer import ManifestEpisode
from fssplat.engine.settings import RunSettings
from fssplat.experiment.trial import Trial
from fssplat.methods import method_named
from fssplat.methods.base import FewShotSegmenter, LabelledImage
from fssplat.report.blocks import Cell
from fssplat.report.evidence.gather import Evidence
from fssplat.results.store import Store


@dataclass(frozen=True)
class Opened:
    """A trial's network on its data, and all its episodes."""

    inside: Inside
    dataset: Dataset
    episodes: tuple[ManifestEpisode, ...]  # by episode seed, then in the order of the manifest

    def first_seed(self) -> list[ManifestEpisode]:
        return [one for one in self.episodes if one.seed == self.episodes[0].seed]


class Models:
    """Opens trials; the episodes of a fold are drawn once for all of its methods."""

    def __init__(self, evidence: Evidence, device: torch.device) -> None:
        self.evidence, self.device = evidence, device
        self._drawn: dict[str, tuple[ManifestEpisode, ...]] = {}

    def open(self, cell: Cell) -> Opened:
        """Raises InputError if the data set, the backbone's weights or the model are not here, or
        if the data set has other episodes than the store."""
        trial = cell.trial
        dataset = open_dataset(trial.dataset)
        episodes = self._episodes(dataset, trial)
        _check_same(cell, self.evidence, dataset, episodes)
        network = _network(cell, self.evidence.stores[cell.trial_id])
        network.take_scoring_options(trial.method.options)
        inside = Inside(network, trial, inputs_of(trial, dataset), self.device)
        return Opened(inside, dataset, episodes)

    def labelled_images(self, trial: Trial, count: int) -> list[LabelledImage]:
        """Training images with labels that the method computed for them; most methods have none.

        They are read from the user's cache of artefacts, or computed again. Raises InputError if
        the data set or the backbone's weights are not here.
        """
        if method_named(trial.method.name).labelled_images is FewShotSegmenter.labelled_images:
            return []
        data = JobData({trial.train_on.name: open_dataset(trial.train_on)})
        with kept_random_state(self.device):
            network = prepared_network(trial, data, RunSettings(self.device))
        return network.labelled_images(count)

    def _episodes(self, dataset: Dataset, trial: Trial) -> tuple[ManifestEpisode, ...]:
        drawn = (dataset.root, trial.train_on.name, trial.fold, trial.shot, trial.way)
        key = repr((*drawn, trial.protocol))
        if key not in self._drawn:
            self._drawn[key] = tuple(
                ManifestEpisode(seed, index, one)
                for seed in trial.protocol.episode_seeds
                for index, one in enumerate(_manifest(dataset, trial, seed).episodes)
            )
        return self._drawn[key]


def _manifest(dataset: Dataset, trial: Trial, seed: int) -> Manifest:
    source = trial.train_on.name
    return manifest(dataset, trial.fold, trial.shot, trial.protocol, seed, trial.way, source)


def _check_same(
    cell: Cell, evidence: Evidence, dataset: Dataset, episodes: tuple[ManifestEpisode, ...]
) -> None:
    """Raises InputError if the store's episodes have other query images."""
    counts = evidence.counts(cell.trial_id)
    if counts is None:
        raise InputError("its episodes.parquet cannot be read. Run `fssplat retry`.")
    here = {(one.seed, one.index): dataset.keys[one.drawn.query] for one in episodes}
    there = dict(
        zip(zip(counts.seed.tolist(), counts.episode.tolist(), strict=True), counts.query,
            strict=True)
    )  # fmt: skip
    if here != there:
        raise InputError(
            f"{dataset.root}: this data set gives other episodes than those in the store. Build "
            "the one that the trial was scored on."
        )


def _network(cell: Cell, store: Store) -> FewShotSegmenter:
    """Raises InputError if the store has no model of the trial or it does not load here."""
    job = str(cell.result.about.get("job", ""))
    folder = f"jobs/{job}"
    present = store.files.sizes(folder) if is_plain_path(job) else {}
    if any(name not in present for name in FILES if name != EVALUATION):
        raise InputError(
            f"store {store.shown_address} has no weights of this trial in {folder}. Copy them "
            "back, or train again by `fssplat launch X.yaml --rerun all`."
        )
    if store.folder is not None:
        return load_network(store.folder / folder)[0]
    with TemporaryDirectory(prefix="fssplat-model-") as scratch:
        _download(store, folder, present, Path(scratch))
        return load_network(Path(scratch))[0]


def _download(store: Store, folder: str, present: Mapping[str, int], scratch: Path) -> None:
    for name in FILES:
        if name in present:
            store.files.get(f"{folder}/{name}", scratch / name)
