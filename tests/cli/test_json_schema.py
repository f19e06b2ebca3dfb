"""The JSON schema of experiment files: our files fit it, mistakes do not, and it is up to date."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.cli.init import first_experiment
from fssplat.cli.json_schema import experiment_schema
from fssplat.common.errors import InputError
from fssplat.experiment.expand import expand
from fssplat.experiment.reading import load_experiment
from fssplat.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "experiments").rglob("*.yaml"))


@pytest.fixture(scope="module")
def checker() -> Any:
    return jsonschema.Draft202012Validator(experiment_schema())


def test_the_stored_schema_is_that_of_the_settings() -> None:
    """Otherwise: fssplat schema --out experiments/schema.json"""
    assert json.loads((ROOT / "experiments" / "schema.json").read_text()) == experiment_schema()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_experiment_fits_the_schema_that_it_names(path: Path, checker: Any) -> None:
    text = path.read_text()
    (line,) = [one for one in text.splitlines() if one.startswith("# yaml-language-server: ")]
    assert (path.parent / line.partition("$schema=")[2]).samefile(ROOT / "experiments/schema.json")
    assert [error.message for error in checker.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "text",
    [
        "trainning: {}",
        "training: {stepz: 3}",
        "training: {lr: fast}",
        "grid: {fold: a}",
        "grid: {method: [{nam: hsnet}]}",
        "protocol: fsplat",
        "protocol: {name: fssplat, input: crop}",
        "search: {trials: many}",
    ],
)
def test_a_mistake_does_not_fit(text: str, checker: Any) -> None:
    assert not checker.is_valid(yaml.safe_load(text))


def test_settings_have_their_meaning(checker: Any) -> None:
    training = checker.schema["$defs"]["TrainingSpec"]["properties"]
    assert training["steps"]["description"].startswith("optimiser steps")


def test_the_first_experiment_is_one_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checker: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "cells").mkdir(parents=True)
    facts = {"folds": [{}, {}, {}], "counts": {"train": 40}, "recipe": "fss-1000"}
    (tmp_path / "data" / "cells" / "dataset.json").write_text(json.dumps(facts))
    for name in ("cells", "synthetic"):
        result = CliRunner().invoke(app, ["init", "experiment", name])
        assert result.exit_code == 0, result.output
        assert f"fssplat launch {name}.yaml" in result.output
        assert checker.is_valid(yaml.safe_load((tmp_path / f"{name}.yaml").read_text()))
        trials = expand(load_experiment(tmp_path / f"{name}.yaml"), METHODS)
        assert {(trial.fold, trial.method.name) for trial in trials} == {
            (fold, method) for fold in (0, 1) for method in ("prior", "hsnet")
        }
    assert (tmp_path / "schema.json").is_file()
    again = CliRunner().invoke(app, ["init", "experiment", "cells"])
    assert isinstance(again.exception, InputError)
    with pytest.raises(InputError, match="dataset 'cels' is unknown"):
        first_experiment("cels")
