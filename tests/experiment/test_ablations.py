"""An ablation changes one thing: the rows of a file differ only in what its comment names."""

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from fssplat.experiment.expand import ResolvedTrial, resolve
from fssplat.experiment.reading import load_experiment
from fssplat.experiment.schema import ExperimentSpec, plain
from fssplat.methods import METHODS

FOLDER = Path(__file__).parents[2] / "experiments" / "ablations"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "base")
COSTS = [
    "jc2a_table3",
    "jc2a_table4",
    "mining_table7",
    "sdaanet_table3",
    "hmfs_costs",
    "mmnet_costs",
]
# Of a trial: what a method brings with it; `training.shot` is a choice of the file.
OF_METHOD = ("method.", "training.", "method_version", "scoring_options")


def named(path: Path) -> set[str]:
    """The settings in which the rows differ, as the file's comment says."""
    (found,) = re.findall(r"^# Rows differ in (.+)\.$", path.read_text(), re.MULTILINE)
    return {item.strip() for item in found.split(",")}


def settings(one: ResolvedTrial) -> dict[str, Any]:
    """Each setting of a trial by its dotted name, as in an experiment file."""
    return dict(flat(plain(one.trial)))


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differences(first: ResolvedTrial, second: ResolvedTrial) -> set[str]:
    """Names of the settings that two rows do not share.

    `method` stands for everything that another method brings with it, its recipe included. The
    number of training supports, and what an entry of the file itself sets, are named apart.
    """
    ours, theirs = settings(first), settings(second)
    other = {key for key in ours | theirs if ours.get(key) != theirs.get(key)}
    if first.trial.method.name != second.trial.method.name:
        of_file = {
            key
            for one in (first, second)
            for key, source in one.sources.items()
            if not source.startswith(("recipe", "grid."))
        }
        kept = {key for key in other if key.removeprefix("method.") in of_file}
        apart = {key for key in other if key == "training.shot" or not key.startswith(OF_METHOD)}
        other = {"method", *kept, *apart}
    return {key.removeprefix("method.") for key in other}


def of_one_cell(experiment: ExperimentSpec) -> Iterator[list[ResolvedTrial]]:
    """The trials of each cell of the table: the same data, fold, shots, backbone and seed."""
    cells: dict[tuple[Any, ...], list[ResolvedTrial]] = {}
    for one in resolve(experiment, METHODS):
        trial = one.trial
        seed = trial.training.seed
        key = (trial.dataset.name, trial.fold, trial.shot, trial.way, trial.backbone.name, seed)
        cells.setdefault(key, []).append(one)
    yield from cells.values()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_rows_of_a_file_differ_in_what_its_comment_names(path: Path) -> None:
    profiles = re.findall(r"^  (\w+):\n    grid:", path.read_text(), re.MULTILINE)
    found = set()
    for changes in ((), *((f"profile={name}",) for name in profiles)):
        for rows in of_one_cell(load_experiment(path, changes)):
            for first, second in combinations(rows, 2):
                found |= differences(first, second)
    assert found == named(path)


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("sdaanet_table4", "saam: false}}", "saam: false}, loss_weights: {auxiliary: 0}}",
         "loss_weights.auxiliary"),
        ("mining_table7", ", five_shot: apart", "", "training.shot"),
        ("mining_table7", "mining]", "{name: mining, training: {batch: 2}}]", "training.batch"),
    ],
)  # fmt: skip
def test_a_second_difference_is_found(
    tmp_path: Path, name: str, old: str, new: str, expected: str
) -> None:
    text = (FOLDER / f"{name}.yaml").read_text().replace("extends: ", f"extends: {FOLDER}/")
    assert old in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new))
    found = set()
    for rows in of_one_cell(load_experiment(path)):
        for first, second in combinations(rows, 2):
            found |= differences(first, second)
    assert found == {*named(path), expected}


def test_every_row_of_sd_aanet_supervises_the_levels_of_its_pyramid() -> None:
    for path in FOLDER.glob("sdaanet_*.yaml"):
        for one in resolve(load_experiment(path), METHODS):
            assert one.trial.method.loss_weights["auxiliary"] == 1, path.stem


def test_pfenet_trains_with_five_supports_for_its_five_shot_row() -> None:
    for one in resolve(load_experiment(FOLDER / "mining_table7.yaml"), METHODS):
        assert one.trial.training.shot == one.trial.shot


@pytest.mark.parametrize("name", COSTS)
def test_the_files_of_tables_with_costs_score_one_episode_at_a_time_and_keep_no_feature(
    name: str,
) -> None:
    experiment = load_experiment(FOLDER / f"{name}.yaml")
    assert experiment.costs
    assert (experiment.evaluation.cache_gb, experiment.evaluation.batch) == (0, 1)


def test_no_other_file_prints_costs() -> None:
    assert {path.stem for path in FILES if load_experiment(path).costs} == set(COSTS)
