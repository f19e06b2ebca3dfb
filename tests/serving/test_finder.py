"""A model and its supports in one object, as docs/predict.md uses it from Python."""

from pathlib import Path

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.readers.pictures import read_picture
from fssplat.engine.predicting.predictor import Predictor
from fssplat.engine.predicting.prepared import PreparedSupports
from fssplat.results.store import Store
from fssplat.serving.finder import Finder
from fssplat.serving.supports import read_supports


def test_a_finder_finds_what_its_model_finds_with_the_same_supports(
    store: Store, predictor: Predictor, marked: Path
) -> None:
    find = Finder("prior-fold0", marked / "refs", store=store.address)
    supports = PreparedSupports(predictor, read_supports([marked / "refs"]).classes)
    photos = sorted((marked / "photos").glob("*.jpg"))
    assert len(photos) == 4
    for path in photos:
        pixels = read_picture(path, str(path)).pixels
        expected = supports(pixels)
        for found in (find(path), find(str(path)), find(pixels)):
            assert np.array_equal(found.labels, expected.labels)
            assert found.confidence == expected.confidence
    assert any(find(path).labels.any() for path in photos)
    (score,) = find.self_scores().values()
    assert score.supports == 3
    assert score.left_out


def test_a_finder_refuses_a_model_that_its_store_lacks(store: Store, marked: Path) -> None:
    with pytest.raises(InputError, match="model hsnet-fold9: not in"):
        Finder("hsnet-fold9", marked / "refs", store=store.address)
