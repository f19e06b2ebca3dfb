"""t-SNE: vectors in a plane, so that near vectors are near points.

Source   van der Maaten and Hinton, JMLR 9, 2008; computed by scikit-learn.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

SEED = 0
PERPLEXITY = 30.0  # about how many neighbours count as near
FEWEST = 5  # points that a projection needs


def perplexity(points: int) -> float:
    """30, or a third of the points if there are few: it must be below their number."""
    return min(PERPLEXITY, max(1.0, (points - 1) / 3))


def tsne(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """[i, c] -> [i, 2]. The same vectors give the same points: one thread, a fixed seed.

    Vectors are divided by their norms, since methods compare them by cosine.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(norms, 1e-12)
    made = TSNE(perplexity=perplexity(len(unit)), random_state=SEED, init=_start(unit))
    with threadpool_limits(1):  # several threads would add in varying order
        found: Any = made.fit_transform(unit)
    return np.asarray(found, dtype=np.float64)


def _start(unit: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The two principal components, of standard deviation 1e-4 as scikit-learn has it."""
    centred = (unit - unit.mean(axis=0)).astype(np.float64)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    count = min(2, len(singular))
    start = np.zeros((len(unit), 2))
    start[:, :count] = left[:, :count] * singular[:count]
    sign = np.sign(start[np.abs(start).argmax(axis=0), [0, 1]])  # the SVD leaves it open
    start *= np.where(sign == 0, 1, sign)
    return np.asarray(start / max(start[:, 0].std(), 1e-12) * 1e-4, dtype=np.float32)
