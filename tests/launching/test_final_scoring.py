"""No trial fails after its training: what final scoring cannot do is refused when it is planned."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from fssplat.backbones import BACKBONES
from fssplat.common.errors import InputError
from fssplat.data.index import Dataset
from fssplat.experiment.expand import expand
from fssplat.experiment.reading import load_experiment
from fssplat.experiment.schema import BackboneSpec, ExperimentSpec, MethodSpec
from fssplat.experiment.trial import Trial
from fssplat.methods import METHODS, build_method
from fssplat.report import published
from tests.fakes.final_scoring import kinds, scored, small, two_sizes

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def of_files() -> list[Trial]:
    """The trials of every experiment file, searches and ablations too."""
    paths = [path for path in sorted(EXPERIMENTS.rglob("*.yaml")) if path.stem != "base"]
    return [trial for path in paths for trial in expand(load_experiment(path), METHODS)]


def of_rows() -> list[Trial]:
    """The trials of every published row that `verify --list` offers."""
    found = [row for row in published.rows() if not published.why_not_run(row)]
    made = [ExperimentSpec.model_validate(published.experiment(row)) for row in found]
    return [trial for experiment in made for trial in expand(experiment, METHODS)]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_published_row_and_every_experiment_file_can_be_scored(
    synthetic: Path, tmp_path: Path, method: str
) -> None:
    trials = [one for one in (*of_rows(), *of_files()) if one.method.name == method]
    networks = kinds(small(one, synthetic) for one in trials)
    assert networks
    faults = []
    for one in networks:
        try:
            results = list(scored(one, tmp_path))
            faults += [f"{t.title}: {m}" for t, m in results if not 0 <= m["miou"] <= 1]
        except Exception as error:  # reported with the network's name, the others run on
            faults.append(f"{one[0].title} {one[0].protocol.input}: {error!r}")
    assert faults == []


@pytest.mark.parametrize("method", sorted(METHODS))
def test_five_shots_of_two_sizes_are_scored_or_refused(
    synthetic: Path, tmp_path: Path, method: str
) -> None:
    """Of each method a small network."""
    accepted = []
    for how in ("pad", "original"):
        for shot in (1, 5):
            values = experiment(method, shot, {"name": "fssplat", "input": how})
            if (how, shot) == ("original", 5) and METHODS[method].SUPPORT_MAPS:
                with pytest.raises(InputError, match="compares the 5 supports of an episode at"):
                    expand(ExperimentSpec.model_validate(values), METHODS)
            else:
                accepted += expand(ExperimentSpec.model_validate(values), METHODS)
    (network,) = kinds(small(one, synthetic) for one in accepted)
    results = list(scored(network, tmp_path))
    assert len(results) == len(accepted)
    assert all(metrics["episodes"] == 1 for _, metrics in results)


def experiment(method: str, shot: int, protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "scored",
        "dataset": "synthetic",
        "grid": {"shot": [shot], "method": [method], "backbone": ["efficientnet_lite0"]},
        "protocol": protocol,
    }


def test_the_episode_has_images_of_two_sizes(synthetic: Path) -> None:
    values = experiment("mining", 5, {"name": "fssplat", "input": "original"})
    (trial,) = expand(ExperimentSpec.model_validate(values), METHODS)
    dataset = Dataset.open(str(synthetic))
    drawn = two_sizes(dataset, small(trial, synthetic))
    sizes = [tuple(dataset.sizes[row].tolist()) for row in (drawn.query, *drawn.supports)]
    assert len(sizes) == 6
    assert len(set(sizes)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_network_of_every_backbone_can_be_built(method: str) -> None:
    """A plan builds no network of default options, since they are built here."""
    kind = METHODS[method]
    data = ("pascal-5i", "coco-20i", "fss-1000", "synthetic")
    for options in {kind.Options(**kind.options_for(name)) for name in data}:
        spec = MethodSpec(name=method, options=options.model_dump(mode="json"))
        for backbone in BACKBONES:
            with torch.device("meta"):
                build_method(spec, BackboneSpec(name=backbone, weights="random"))
