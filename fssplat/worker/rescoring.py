"""Add to finished trials the record of wrong pixels that older trials lack; without training.

It is computed from the kept masks if the trial has that of every episode, otherwise the episodes
are scored again with the stored weights. Numbers of a trial never change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fssplat.common.errors import InputError
from fssplat.data.episodes.manifest import Manifest
from fssplat.engine.device import deterministic, reserved_device
from fssplat.engine.events import EpisodesScored, Event
from fssplat.engine.job_data import JobData
from fssplat.engine.predicting.model_files import FILES
from fssplat.engine.predicting.predictor import Predictor
from fssplat.engine.scoring.evaluate import evaluate, inputs_of
from fssplat.engine.scoring.kept.files import KeptFiles
from fssplat.engine.scoring.kept.names import DETAILS, PREDICTIONS
from fssplat.engine.scoring.scorer import ManifestEpisode
from fssplat.experiment.trial import Job, Trial
from fssplat.planning.plan import Plan
from fssplat.results.episodes.predictions import Predictions
from fssplat.results.records import Result
from fssplat.results.store import Store
from fssplat.tracking.logged_models import local_files
from fssplat.worker.process import set_threads

SAME = 1e-3  # mIoU; a larger difference is no rounding of another device

Say = Callable[[str], None]
Places = dict[tuple[int, int], ManifestEpisode]  # by seed and place in the manifest


@dataclass
class Rescored:
    """How many trials got the record, by what it was computed from, and how many did not."""

    masks: int = 0
    weights: int = 0
    failed: int = 0
    there: int = 0  # had it before

    @property
    def sentence(self) -> str:
        return (
            f"{self.masks} trials scored from kept masks, {self.weights} from stored weights; "
            f"{self.there} had the record; {self.failed} could not be scored."
        )


def rescore(plan: Plan, store: Store, say: Say, step: Say) -> Rescored:
    """Rescore the finished trials of an experiment. `say` gets why a trial could not be, `step`
    what runs now. Raises InputError if the data set is missing or has changed."""
    found = Rescored()
    results = store.results(plan.trials)
    device = reserved_device(0.0 if plan.experiment.resources.gpu == 0 else 1.0)
    set_threads(max(1, int(plan.experiment.resources.cpu)))
    for job in plan.jobs:
        old = [one for one in job.trial_ids if one in results and DETAILS not in results[one].files]
        found.there += sum(one in results for one in job.trial_ids) - len(old)
        data = JobData.open(job, plan.fingerprints) if old else None
        for trial_id in old:
            assert data is not None
            try:
                one = _Trial(trial_id, job, results[trial_id], data, store, device, step)
                from_masks = one.rescore()
                found.masks, found.weights = (
                    found.masks + from_masks,
                    found.weights + (not from_masks),
                )
            except InputError as error:
                say(f"{plan.trials[trial_id].title} ({trial_id}): {error}")
                found.failed += 1
    return found


@dataclass
class _Trial:
    """One finished trial without the record."""

    trial_id: str
    job: Job
    result: Result
    data: JobData
    store: Store
    device: torch.device
    step: Say

    def rescore(self) -> bool:
        """Add the record. Returns whether it is from kept masks. Raises InputError."""
        if self.store.job_held(self.job.key):
            raise InputError("a launch runs its job. Wait for its end.")
        manifests = self.data.manifests(self.trial)
        masks = self._kept_masks(manifests)
        with TemporaryDirectory() as folder:
            scratch = Path(folder)
            if masks is None:
                self._score(scratch, manifests)
            else:
                self._from_masks(scratch, masks, manifests)
            self._check(scratch / DETAILS)
            names = [DETAILS] if masks is not None else [DETAILS, PREDICTIONS]
            files = {name: scratch / name for name in names if (scratch / name).is_file()}
            kept = {name: path.read_bytes() for name, path in files.items()}
        self.store.add_files(self.trial_id, kept)
        return masks is not None

    @property
    def trial(self) -> Trial:
        return self.job.trials[self.job.trial_ids.index(self.trial_id)]

    def _kept_masks(self, manifests: Mapping[int, Manifest]) -> Predictions | None:
        """The kept masks; None if one is missing or their file is damaged."""
        try:
            found = self.store.predictions(self.trial_id)
        except ValueError:
            return None
        wanted = sum(len(one.episodes) for one in manifests.values()) * self.trial.way
        return found if found is not None and len(found) == wanted else None

    def _from_masks(
        self, scratch: Path, masks: Predictions, manifests: Mapping[int, Manifest]
    ) -> None:
        inputs = inputs_of(self.trial, self.data.dataset(self.trial))
        kept = KeptFiles(self.trial, inputs, ())
        self.step(f"{self.trial.title}: from its kept masks")
        try:
            for seed, manifest in manifests.items():
                for index, drawn in enumerate(manifest.episodes):
                    ways = [masks.find(seed, index, way + 1) for way in range(self.trial.way)]
                    shown = [one.mask() for one in ways if one is not None]
                    if len(shown) < self.trial.way:
                        raise InputError("its kept masks are of other episodes.")
                    labels = np.zeros(shown[0].shape, dtype=np.int64)
                    for way, mask in enumerate(shown, start=1):
                        labels[mask] = way
                    kept.add(ManifestEpisode(seed, index, drawn), torch.from_numpy(labels))
            kept.write(scratch)
        except ValueError as error:
            raise InputError(f"its kept masks are damaged ({error}).") from error
        finally:
            kept.close()

    def _score(self, scratch: Path, manifests: Mapping[int, Manifest]) -> None:
        def emit(event: Event) -> None:
            if isinstance(event, EpisodesScored):
                self.step(f"{self.trial.title}: {event.done} of {event.total} episodes")

        key = str(self.result.about.get("job") or self.job.key)
        with TemporaryDirectory() as downloads:
            folder = local_files(self.store, f"jobs/{key}", FILES, Path(downloads))
            if folder is None:
                raise InputError(
                    "its weights are not in the store any more, and not all of its masks are kept. "
                    "`fssplat launch X.yaml --rerun` trains again."
                )
            network = Predictor.load(folder, self.device).network
        network.take_scoring_options(self.trial.method.options)
        dataset = self.data.dataset(self.trial)
        with deterministic():
            evaluate(
                network, self.trial, dataset, manifests, scratch, self.trial_id, emit,
                device=self.device,
            )  # fmt: skip

    def _check(self, details: Path) -> None:
        """Raises InputError if the counts are not those of the trial, up to rounding."""
        data = self.store.files.read(f"{self.trial_id}/episodes.parquet")
        names = ["seed", "episode", "way", "class_id", "intersection", "union"]
        score = [("score", "=", str(self.trial.protocol.score[0]))]
        try:
            then = pq.read_table(BytesIO(data or b""), columns=names, filters=score)
        except (pa.ArrowException, OSError) as error:
            raise InputError("its episodes.parquet is damaged.") from error
        now = pq.read_table(details, columns=names)
        if now.select(names[:4]) != then.select(names[:4]):
            raise InputError("the data set gives other episodes than those of the trial.")
        means = [
            np.mean(table["intersection"].to_numpy() / np.maximum(table["union"].to_numpy(), 1))
            for table in (then, now)
        ]
        if abs(means[0] - means[1]) > SAME:
            raise InputError(
                f"its episodes have a mean IoU of {100 * means[1]:.2f} here and of "
                f"{100 * means[0]:.2f} in the store. `fssplat launch X.yaml --rerun stale` scores "
                "trials of other source code again."
            )
