"""The predicted masks of the trials of a report, each file read once."""

from collections.abc import Mapping

from fssplat.engine.scoring.kept.names import PREDICTIONS
from fssplat.report.evidence.gather import Evidence
from fssplat.report.gallery.drawing import Shown, episode_tiles
from fssplat.results.episodes.predictions import (
    Prediction,
    Predictions,
    read_predictions,
)


class KeptMasks:
    """Finds masks; damaged files are noted as problems of the evidence."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._read: dict[str, Predictions | None] = {}

    def of(self, trial_id: str) -> Predictions | None:
        """The masks of a trial; None if the store has none."""
        if trial_id not in self._read:
            self._read[trial_id] = self._masks(trial_id)
        return self._read[trial_id]

    def has(self, trial_id: str, index: int, *others: str) -> bool:
        """Whether the mask at row `index` of the counts was kept, by each of these trials."""
        for one in (trial_id, *others):
            masks, counts = self.of(one), self.evidence.counts(one)
            if masks is None or counts is None:
                return False
            if len(masks) < len(counts) and self.find(one, index) is None:  # only some were kept
                return False
        return True

    def find(self, trial_id: str, index: int) -> Prediction | None:
        """The mask at row `index` of a trial's counts; None if it was not kept."""
        masks, counts = self.of(trial_id), self.evidence.counts(trial_id)
        if masks is None or counts is None:
            return None
        place = counts.seed[index], counts.episode[index], counts.way[index]
        return masks.find(*map(int, place))

    def draw(self, index: int, titles: Mapping[str, str]) -> Shown:
        """The episode at row `index`, with the predictions of the trials under their titles.

        Raises InputError if the data set is away or has changed.
        """
        found = {one: (title, self.find(one, index)) for one, title in titles.items()}
        return episode_tiles(self.evidence, found, index)

    def _masks(self, trial_id: str) -> Predictions | None:
        if PREDICTIONS not in self.evidence.results[trial_id].files:
            return None
        data = self.evidence.read(trial_id, PREDICTIONS)
        if data is None:
            return None
        try:
            return read_predictions(data)
        except ValueError as error:
            self.evidence.note(trial_id, f"its {PREDICTIONS} {error}")
            return None
