"""Supports that are encoded once find what the predictor finds in whole episodes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fssplat.common.errors import InputError
from fssplat.data.index import Dataset
from fssplat.engine.network import fresh_network
from fssplat.engine.predicting.predictor import Predictor
from fssplat.engine.predicting.prepared import PreparedSupports, Support
from tests.fakes.synthetic_jobs import synthetic_job

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["prior", "hsnet", "jc2a"])
def predictor(request: pytest.FixtureRequest, synthetic: Path) -> Predictor:
    """A network with random weights: one of each way to combine shots."""
    trial = synthetic_job(synthetic, request.param).first
    return Predictor(fresh_network(trial), trial, CPU)


@pytest.fixture(scope="module")
def classes(synthetic: Path) -> dict[str, list[Support]]:
    dataset = Dataset.open(synthetic)
    return {
        dataset.info.classes[number - 1]: [
            Support(dataset.image(row), dataset.mask(row, number))
            for row in dataset.rows_of(number, "train", 100)[:3]
        ]
        for number in (2, 7)
    }


def test_one_class_is_found_as_in_an_episode(
    predictor: Predictor, classes: dict[str, list[Support]], synthetic: Path
) -> None:
    (name, supports), _ = classes.items()
    prepared = PreparedSupports(predictor, {name: supports})
    for row in (50, 51):
        query = Dataset.open(synthetic).image(row)
        found = prepared(query)
        expected = predictor(query, [s.pixels for s in supports], [s.mask for s in supports])
        assert (found.labels == expected).all()
        assert found.pixels[name] == int(expected.sum())


def test_of_several_classes_the_most_probable_wins(
    predictor: Predictor, classes: dict[str, list[Support]], synthetic: Path
) -> None:
    query = Dataset.open(synthetic).image(60)
    both = PreparedSupports(predictor, classes)(query)
    alone = [PreparedSupports(predictor, {name: classes[name]})(query) for name in classes]
    any_of_them = (alone[0].labels > 0) | (alone[1].labels > 0)
    assert ((both.labels > 0) == any_of_them).all()
    for number, one in enumerate(alone, start=1):
        assert (one.labels[both.labels == number] == 1).all()
    assert both.classes == tuple(classes)
    assert sum(both.pixels.values()) == int((both.labels > 0).sum())
    assert (both.mask(both.classes[1]) == (both.labels == 2)).all()


def test_a_class_is_absent_above_every_threshold(
    predictor: Predictor, classes: dict[str, list[Support]]
) -> None:
    name, supports = next(iter(classes.items()))
    found = PreparedSupports(predictor, {name: supports}, threshold=1.0)(supports[0].pixels)
    assert found.pixels == {name: 0}
    assert found.confidence == {name: 0.0}
    assert not found.labels.any()


def test_a_support_that_is_left_out_is_not_used(
    predictor: Predictor, classes: dict[str, list[Support]]
) -> None:
    name, supports = next(iter(classes.items()))
    prepared = PreparedSupports(predictor, {name: supports})
    fewer = PreparedSupports(predictor, {name: supports[1:]})
    found = prepared.without(prepared.query(supports[0].pixels), name, 0)
    assert (found == (fewer(supports[0].pixels).labels == 1)).all()


def test_supports_that_cannot_be_used_are_named(
    predictor: Predictor, classes: dict[str, list[Support]]
) -> None:
    with pytest.raises(InputError, match="no support images"):
        PreparedSupports(predictor, {"cat": []})
    several = Predictor(predictor.network, predictor.trial.model_copy(update={"way": 2}), CPU)
    with pytest.raises(InputError, match="trained for 2 classes at once"):
        PreparedSupports(several, classes)
    prepared = PreparedSupports(predictor, {"cat": next(iter(classes.values()))})
    with pytest.raises(InputError, match=r"query: float64 \[4, 4\]"):
        prepared(np.zeros((4, 4)))  # type: ignore[arg-type]
