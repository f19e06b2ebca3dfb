"""What a trained network computes inside on one episode: its maps, and its object vectors.

Images go through the network as in an evaluation. Only pictures need this; no score reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fssplat.data.transforms import normalise
from fssplat.engine.device import autocast
from fssplat.engine.scoring.encoder import MASK, Encoder, Role
from fssplat.engine.scoring.evaluate import rules_of
from fssplat.engine.scoring.inputs import Inputs
from fssplat.engine.scoring.panels import way_ious
from fssplat.engine.scoring.scorer import ManifestEpisode, Scorer
from fssplat.experiment.trial import Trial
from fssplat.methods.base import FewShotSegmenter, View, grouped, resize


@dataclass(frozen=True)
class InsideEpisode:
    """An episode as a network sees it."""

    episode: ManifestEpisode
    prediction: Tensor  # int64 [H, W] at the protocol's first size: 0 background, 1 to n the ways
    iou: float  # of the first way, 0 to 1; NaN if neither truth nor prediction has a pixel
    views: Mapping[str, View]  # values [1, h, w], float32, on the CPU, over the padded input


class Inside:
    """A network in eval mode on the episodes of a trial."""

    def __init__(
        self, network: FewShotSegmenter, trial: Trial, inputs: Inputs, device: torch.device
    ) -> None:
        self.network, self.trial = network.to(device).eval(), trial
        self.inputs, self.device = inputs, device
        network.before_evaluation()

    @torch.no_grad()
    def episode(self, episode: ManifestEpisode) -> InsideEpisode:
        """The prediction, as an evaluation makes it, and the method's maps."""
        trial = self.trial
        scorer = Scorer(self.network, self.inputs, rules_of(trial), trial.evaluation, self.device)
        (scored,) = scorer.score([episode])
        headline = trial.protocol.score[0]
        with autocast(self.device, trial.evaluation.precision):
            views = self.network.views(*self._tensors(episode))
        kept = {
            name: replace(view, values=view.values.float().cpu()) for name, view in views.items()
        }
        iou = way_ious(scored.counts[headline].cpu())[0]
        return InsideEpisode(episode, scored.predictions[headline].cpu(), iou, kept)

    def _tensors(self, episode: ManifestEpisode) -> tuple[Tensor, Tensor, Tensor]:
        """Query [1, 3, H, W], supports [1, n, k, 3, H, W] and masks [1, n, k, H, W].

        One shot if the method segments with one, or if supports differ in size.
        """
        shot, classes = self.trial.shot, episode.drawn.classes
        one = self.network.SHOT_FUSION != "network" or self.inputs.mode == "original"
        used = 1 if one else shot
        roles = episode.roles(shot)[1:]
        chosen = [role for number, role in enumerate(roles) if number % shot < used]
        supports = torch.stack([self._image(role.row) for role in chosen])
        masks = torch.stack([self.inputs.mask(*role) for role in chosen]).to(self.device)
        lead = (1, len(classes), used)
        return (
            self._image(episode.drawn.query).unsqueeze(0),
            supports.reshape(*lead, *supports.shape[1:]),
            masks.reshape(*lead, *masks.shape[1:]),
        )

    def _image(self, row: int) -> Tensor:
        return normalise(self.inputs.image(row).to(self.device))

    @torch.no_grad()
    def prototypes(self, supports: Sequence[Role]) -> tuple[str, Tensor] | None:
        """The layer in words, and the vector of each support's object there: float32 [i, c].

        Returns None if the method has no `prototypes`. A method for several classes gets the same
        support as each of them.
        """
        spec = self.trial.evaluation
        encoder = Encoder(self.network, self.inputs, spec, supports, self.device)
        ways = self.network.ways_of(self.network.options) or 1
        vectors, layer = [], ""
        try:
            for role in supports:
                (encoded,) = encoder.get([role])
                mask = encoded[MASK]
                repeated = {
                    name: torch.cat([value] * ways)
                    for name, value in encoded.items()
                    if name != MASK
                }
                masks = torch.cat([mask] * ways).reshape(1, ways, 1, *mask.shape[1:])
                found = self.network.prototypes(grouped(repeated, (1, ways, 1)), masks)
                if found is None:
                    return None
                layer = found[0]
                vectors.append(found[1][0, 0, 0].float().cpu())
        finally:
            encoder.close()
        return layer, torch.stack(vectors)


def over_image(view: View, inputs: Inputs, row: int) -> Tensor:
    """The part of a map [1, h, w] over the image of this row, without the padding: [H, W].

    H and W are those of the image in the network's input. Labels take the nearest cell.
    """
    size, (height, width) = inputs.network_size(row), inputs.box(row)
    maps = view.values.unsqueeze(0)
    if view.scale == "labels":
        enlarged = F.interpolate(maps, size=size, mode="nearest")
    else:
        enlarged = resize(maps, size)
    return enlarged[0, 0, :height, :width]
