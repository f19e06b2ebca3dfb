"""Plots of a search, from studies made by hand."""

import re
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image

from fssplat.report.search_plots import objectives, write_plots

LR = FloatDistribution(1e-4, 1e-1, log=True)
FUSION = CategoricalDistribution(("mean", "vote"))
FOUR = {"history", "importance", "parallel_coordinate", "slice"}


def study(finished: int, directions: int = 1) -> optuna.Study:
    """Points on a line, one of them conditional, beside a failed, a pruned and a running trial."""
    made = optuna.create_study(study_name="a<b", directions=["maximize"] * directions)
    for index in range(finished):
        params = {"lr": 1e-4 * 10 ** (3 * index / max(1, finished))}
        known = {"lr": LR}
        if index % 2:
            params, known = {**params, "fusion": "vote"}, {**known, "fusion": FUSION}
        values = [float(index), float(-index)][:directions]
        made.add_trial(create_trial(values=values, params=params, distributions=known))
    for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING):
        made.add_trial(create_trial(state=state, params={"lr": 1e-2}, distributions={"lr": LR}))
    return made


def names(paths: list[Path]) -> set[str]:
    return {path.stem for path in paths}


def test_a_study_has_a_page_and_four_plots(tmp_path: Path) -> None:
    page, *pictures = write_plots(study(6), tmp_path)
    assert page.name == "plots.html"
    assert names(pictures) == FOUR
    for picture in pictures:
        with Image.open(picture) as opened:
            assert opened.format == "PNG"
            assert min(opened.size) > 200
            assert len(set(opened.convert("L").resize((64, 64)).getdata())) > 10  # not blank


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    page, *_ = write_plots(study(6), tmp_path)
    text = page.read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=", text)
    assert "<h1>Search a&lt;b</h1>" in text
    for name in FOUR:
        assert f'id="{name}"' in text


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_study_with_few_trials_has_fewer_plots(finished: int, tmp_path: Path) -> None:
    wanted = {0: set(), 1: FOUR - {"importance"}, 2: FOUR}
    _, *pictures = write_plots(study(finished), tmp_path) or [tmp_path]
    assert names(pictures) == wanted[finished]


def test_two_objectives_have_a_pareto_front_instead_of_a_history(tmp_path: Path) -> None:
    made = study(5, directions=2)
    assert objectives(made) == ["objective 0", "objective 1"]
    _, *pictures = write_plots(made, tmp_path)
    of_each = {"importance", "parallel_coordinate", "slice"}
    expected = {f"{name}_objective_{index}" for name in of_each for index in (0, 1)}
    assert names(pictures) == {"pareto_front", *expected}


def test_a_study_without_parameters_has_only_its_history(tmp_path: Path) -> None:
    made = optuna.create_study()
    made.add_trial(create_trial(value=1.0))
    assert names(write_plots(made, tmp_path)) == {"plots", "history"}
