"""Free names of data sets: what an experiment reads of them, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from fssplat.common.errors import InputError
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.datasets import BUILT_IN, known_dataset, recipe_for
from fssplat.experiment.expand import expand, resolve
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.methods import METHODS


def describe(folder: Path, folds: int = 3, recipe: str = "fss-1000") -> Path:
    """The dataset.json of a data set of one's own, as far as an experiment reads it."""
    folder.mkdir(parents=True)
    content = {"folds": [{}] * folds, "counts": {"train": 40}, "recipe": recipe}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def spec(root: Path, method: str = "hsnet", **changes: Any) -> ExperimentSpec:
    values = {
        "name": "own",
        "dataset": "cells",
        "datasets": {"cells": {"name": "cells", "root": str(root)}},
        "grid": {"method": [method], "fold": changes.pop("fold", [2])},
        **changes,
    }
    return validate(ExperimentSpec, values, "own.yaml")


def trials(root: Path, **changes: Any) -> list[Trial]:
    return expand(spec(root, **changes), METHODS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recipe", BUILT_IN)
def test_every_method_has_a_recipe_for_a_data_set_of_your_own(
    method: str, recipe: str, tmp_path: Path
) -> None:
    root = describe(tmp_path / "cells", recipe=recipe)
    changes: dict[str, Any] = {"backbones": {}}
    (own,) = resolve(spec(root, method, **changes), METHODS)
    values = spec(root, method, fold=[0]).model_dump()
    values |= {"dataset": recipe, "datasets": {}}
    (same,) = expand(validate(ExperimentSpec, values, "same"), METHODS)
    assert own.trial.training == same.training
    assert own.trial.method == same.method
    if own.trial.training.steps != 0:
        assert own.sources["training.size"].endswith(f" on {recipe}")


def test_a_recipe_fits_the_size_and_the_number_of_images() -> None:
    assert recipe_for(128, 100) == "synthetic"
    assert recipe_for(256, 100) == "fss-1000"
    assert recipe_for(640, 100) == "pascal-5i"
    assert recipe_for(640, 100_000) == "coco-20i"


def test_axes_of_the_protocol_take_the_name(tmp_path: Path) -> None:
    root = describe(tmp_path / "cells")
    (trial,) = trials(root, protocol={"name": "fssplat", "episodes": {"cells": 20, "default": 9}})
    assert trial.protocol.episode_count("cells") == 20
    (trial,) = trials(root)
    assert trial.protocol.episode_count("cells") == 1000
    with pytest.raises(InputError, match=r"protocol.episodes: data set cels is unknown\. Did you"):
        trials(root, protocol={"name": "fssplat", "episodes": {"cels": 20}})


def test_rules_can_name_it(tmp_path: Path) -> None:
    root = describe(tmp_path / "cells")
    where = {"dataset": "cells"}
    (trial,) = trials(root, overrides=[{"where": where, "training": {"epochs": 3}}])
    assert trial.training.epochs == 3
    with pytest.raises(InputError, match=r"data set 'cels' is unknown\. Did you mean cells"):
        trials(root, exclude=[{"dataset": "cels"}])


def test_folds_and_places_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = describe(tmp_path / "cells")
    with pytest.raises(InputError, match=r"grid\.fold has 3; cells has folds 0 to 2"):
        trials(root, fold=[3])
    with pytest.raises(InputError, match=r"no data set there .*fssplat data build cells --source"):
        trials(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"datasets\.cells is not used by"):
        trials(root, dataset="synthetic", fold=[0])
    monkeypatch.setenv("FSSPLAT_DATA", str(tmp_path))
    assert known_dataset("cells", "", "own").folds == 3  # at its default place
    with pytest.raises(InputError, match=r"dataset 'cels' is unknown\. .*To build one of your own"):
        known_dataset("cels", "", "own")
    (root / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        known_dataset("cells", "", "own")
