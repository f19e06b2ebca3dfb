"""How well does a model find its own supports? The first answer to whether it can work at all."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fssplat.data.masks.labels import IGNORE
from fssplat.engine.predicting.prepared import PreparedSupports

MOST = 20  # supports of a class that are left out in turn


class SelfScore(NamedTuple):
    """The IoU of a class over its own supports."""

    iou: float  # intersection over union, pixels of all supports together, 0 to 1
    supports: int  # that were left out in turn; 1 of a single support, which is found by itself
    left_out: bool  # whether each support was found by the others


def self_scores(supports: PreparedSupports) -> Mapping[str, SelfScore]:
    """Each support is found by the other supports of its class; a single one by itself.

    The first is a fair estimate from few images. The second is the best case: the same image.
    """
    scores = {}
    for name, given in supports.supports.items():
        several = len(given) > 1
        intersection = union = 0
        for place, support in enumerate(given[:MOST]):
            query = supports.query(support.pixels)
            found = supports.without(query, name, place if several else -1)
            known = support.mask != IGNORE
            true = support.mask == 1
            intersection += int(np.sum(found & true & known))
            union += int(np.sum((found | true) & known))
        iou = intersection / max(union, 1)
        scores[name] = SelfScore(iou, len(given[:MOST]), several)
    return scores
