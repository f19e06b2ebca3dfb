"""A model and its supports in one object, for Python.

from fssplat.serving.finder import Finder
find = Finder("hsnet-fold0", "refs")     # any model of `fssplat models`, any layout
found = find("photos/a.jpg")             # or an array, uint8 RGB [H, W, 3]
found.labels, found.confidence           # uint8 [H, W]: 0, or the class's place from 1
"""

from collections.abc import Sequence
from pathlib import Path

from fssplat.data.readers.class_choice import parsed_choice
from fssplat.data.readers.pictures import read_picture
from fssplat.data.transforms import Pixels
from fssplat.engine.predicting.prepared import HALF, PreparedSupports, Segmented
from fssplat.serving.models.opening import STORE, Model, load_model
from fssplat.serving.self_check import SelfScore, self_scores
from fssplat.serving.supports import read_supports


class Finder:
    """Finds in any picture what is marked in a few."""

    def __init__(
        self,
        model: str | Model,
        supports: Path | str | Sequence[Path | str],
        classes: Sequence[str] = (),
        threshold: float = HALF,
        layout: str = "",
        images: Sequence[Path] = (),
        store: str | Path = STORE,
    ) -> None:
        """`supports`: where pictures are marked; the rest as the options of `fssplat predict`.

        Raises InputError for a model or supports that cannot be used.
        """
        given = read_supports(supports, parsed_choice(classes), layout, images)
        self.model = load_model(model, store) if isinstance(model, str) else model
        self.supports = PreparedSupports(self.model.predictor, given.classes, threshold)
        self.notes = given.notes

    def __call__(self, picture: Path | str | Pixels) -> Segmented:
        """What is found in a file, turned by EXIF, or in uint8 RGB [H, W, 3]."""
        if isinstance(picture, str | Path):
            picture = read_picture(Path(picture), str(picture)).pixels
        return self.supports(picture)

    def self_scores(self) -> dict[str, SelfScore]:
        """Class -> IoU of its own supports, each found by the others."""
        return dict(self_scores(self.supports))
