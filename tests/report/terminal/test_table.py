"""The table at the end of a launch."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fssplat.experiment.schema import BackboneSpec
from fssplat.experiment.trial import Trial
from fssplat.report.terminal.table import Cell, Row, blocks, remarks, results_table
from fssplat.results.records import Result, TrialStatus
from tests.fakes.report_stores import report_trial, small_store
from tests.fakes.trials import trial


def cell(one: Trial, miou: float, std: float = 0.0) -> Cell:
    return Cell("id", one, Result({"miou": miou, "miou_std": std, "fb_iou": 0.7}))


def test_a_mean_needs_every_fold() -> None:
    row = Row("panet", "resnet50", (cell(trial(fold=0), 0.5), cell(trial(fold=1), 0.7)))
    assert row.mean((0, 1)) == pytest.approx(60.0)
    assert row.mean((0, 1, 2)) is None
    assert row.fold(2) is None


def test_spread_is_over_training_seeds_if_there_are_several() -> None:
    cells = [cell(trial(seed, fold=0), miou, 0.3) for seed, miou in enumerate((0.4, 0.5, 0.6))]
    assert Row("panet", "resnet50", tuple(cells)).spread((0,)) == pytest.approx(10.0)


def test_spread_is_over_episode_seeds_otherwise() -> None:
    row = Row("p", "r", (cell(trial(fold=0), 0.5, 0.03), cell(trial(fold=1), 0.5, 0.04)))
    assert row.spread((0, 1)) == pytest.approx(2.5)  # sqrt(9 + 16) / 2 points


def test_protocols_and_shots_never_share_a_table() -> None:
    other = trial().protocol.model_copy(update={"episodes": 7})
    trials = {
        "a": trial(),
        "b": trial(shot=5),
        "c": trial().model_copy(update={"protocol": other}),
        "d": trial(method="prior"),
    }
    found = blocks(trials, {})
    assert [[row.method for row in block.rows] for block in found] == [
        ["panet", "prior"], ["panet"], ["panet"],
    ]  # fmt: skip
    assert len({block.title for block in found}) == 3


def test_weights_chosen_on_the_novel_classes_are_labelled() -> None:
    rules = trial().protocol.model_copy(update={"selection": "novel-best"})
    (block,) = blocks({"a": trial().model_copy(update={"protocol": rules})}, {})
    assert block.title.endswith("weights chosen on the novel classes")


def test_each_remark_is_under_the_table_once() -> None:
    trials = {"a": trial(), "b": trial(method="prior"), "c": trial(fold=1), "d": trial(fold=2)}
    states = {
        "a": TrialStatus("finished"),
        "b": TrialStatus("finished"),
        "c": TrialStatus("skipped", "no class has 6 images"),
        "d": TrialStatus("diverged", "at step 3"),
    }
    note = ("left out, too few images: cat",)
    results = {name: Result({}, note) for name in ("a", "b")}
    assert remarks(trials, states, results) == [
        "synthetic fold 0 1-shot: left out, too few images: cat.",
        "synthetic fold 1 1-shot: skipped, no class has 6 images.",
        "synthetic fold 2 1-shot panet resnet50: diverged, at step 3",
    ]


def test_the_table_shows_numbers_and_the_interval_against_the_prior(tmp_path: Path) -> None:
    grid = [report_trial(method, 0) for method in ("prior", "panet")]
    store = small_store(tmp_path, grid)
    trials = {one.trial_id({}): one for one in grid}
    trials["waiting"] = trial().model_copy(
        update={"backbone": BackboneSpec(name="vgg16"), "protocol": grid[0].protocol}
    )
    texts = []
    for _ in range(2):  # the second time from the store's comparisons
        out = StringIO()
        Console(file=out, width=150).print(results_table(trials, store.states(trials), store))
        texts.append(out.getvalue())
    assert texts[0] == texts[1]
    lines = [line.split() for line in texts[0].splitlines()]
    means = {}
    for one in grid:
        metrics = store.results([one.trial_id({})])[one.trial_id({})].metrics
        means[one.method.name] = 100 * metrics["miou"]
    (panet,) = [line for line in lines if line[:2] == ["panet", "resnet50"]]
    assert panet[2] == f"{means['panet']:.1f}"
    assert float(panet[6]) == pytest.approx(means["panet"] - means["prior"], abs=0.051)
    assert ["panet", "vgg16", "-", "-", "-", "-", "-"] in lines
    assert "No result yet: 1 of 3 trials." in texts[0]
    assert len(store.files.sizes("comparisons")) == 1


def test_a_damaged_comparison_is_computed_again(tmp_path: Path) -> None:
    grid = [report_trial(method, 0) for method in ("prior", "panet")]
    store = small_store(tmp_path, grid)
    trials = {one.trial_id({}): one for one in grid}
    texts = []
    for _ in range(2):
        out = StringIO()
        Console(file=out, width=150).print(results_table(trials, store.states(trials), store))
        texts.append(out.getvalue())
        (name,) = store.files.sizes("comparisons")
        store.files.write(f"comparisons/{name}", b'{"low": []}')
    assert texts[0] == texts[1]
