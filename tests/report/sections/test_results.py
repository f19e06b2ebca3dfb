"""The main table: ranks by the printed digits, spreads, marks."""

from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pyarrow.parquet as pq
import pytest

from fssplat.experiment.schema import BackboneSpec, DatasetSpec
from fssplat.report.blocks import Block, Cell, Row
from fssplat.report.document.content import Value
from fssplat.report.sections.results import main_table, ranked, row_marks
from fssplat.report.statistics.compared import Comparisons
from fssplat.results.records import Result
from fssplat.results.store import Store
from tests.fakes.report_stores import evidence, small_grid
from tests.fakes.trials import trial


def test_equal_printed_numbers_share_a_rank() -> None:
    found = ranked([Value(50.04), Value(49.96), Value(48.0), Value(None), Value(47.0)])
    assert [one.rank for one in found] == ["best", "best", "second", "", ""]
    assert [one.rank for one in ranked([Value(50.0), Value(None)])] == ["", ""]


def test_a_star_needs_one_best_that_leads_every_second() -> None:
    values = [Value(52.0), Value(50.0), Value(50.0)]
    assert [one.marks for one in ranked(values, lambda best, second: True)] == ["*", "", ""]
    assert [one.marks for one in ranked(values, lambda best, second: second == 1)] == [""] * 3
    tied = [Value(52.0), Value(52.0), Value(50.0)]
    assert [one.marks for one in ranked(tied, lambda best, second: True)] == [""] * 3


def test_every_number_equals_a_second_computation_from_the_stored_episodes(
    report_store: Store, report_json: Any
) -> None:
    """mIoU: pixels summed per class and episode seed, mean over classes, seeds, folds."""
    (table,) = [
        part for one in report_json["sections"] for part in one["parts"]
        if part["kind"] == "table" and part["name"].startswith("results-")
    ]  # fmt: skip
    folds: dict[tuple[str, int], dict[int, float]] = {}
    for one in small_grid():
        path = Path(report_store.address) / one.trial_id({}) / "episodes.parquet"
        rows = pq.read_table(path).to_pylist()
        seeds = []
        for seed in (0, 1):
            ious = []
            for class_id in {row["class_id"] for row in rows}:
                mine = [r for r in rows if (r["seed"], r["class_id"]) == (seed, class_id)]
                ious.append(sum(r["intersection"] for r in mine) / sum(r["union"] for r in mine))
            seeds.append(mean(ious))
        folds.setdefault((one.method.name, one.fold), {})[one.training.seed] = 100 * mean(seeds)
    assert table["headings"] == ["method", "backbone", "fold-0", "fold-1", "mean", "FB-IoU"]
    for name, _, *cells in table["lines"]:
        for fold in (0, 1):
            values = folds[name.split()[0], fold]
            assert cells[fold]["value"] == pytest.approx(mean(values.values()))
            assert len(cells[fold]["trials"]) == len(values)
        expected = mean(mean(folds[name.split()[0], fold].values()) for fold in (0, 1))
        assert cells[2]["value"] == pytest.approx(expected)
    (panet,) = [line for line in table["lines"] if line[0].startswith("panet")]
    means = [mean(folds["panet", fold][seed] for fold in (0, 1)) for seed in (0, 1)]
    assert panet[4]["std"] == pytest.approx(stdev(means))
    (hsnet,) = [line for line in table["lines"] if line[0].startswith("hsnet")]
    assert hsnet[4]["text"].endswith("*")  # it leads by far on the same episodes


def test_marks_name_weights_chosen_on_novel_classes_and_seen_classes() -> None:
    one = trial()
    pascal = one.model_copy(update={"dataset": DatasetSpec(name="pascal-5i")})
    random = pascal.model_copy(update={"backbone": BackboneSpec(name="vgg16", weights="random")})
    rules = one.protocol.model_copy(update={"selection": "novel-best"})
    cells = [
        Row("m", "b", (Cell("id", each, Result({})),))
        for each in (one, pascal, random, pascal.model_copy(update={"protocol": rules}))
    ]
    assert [row_marks(row) for row in cells] == [[], ["‡"], [], ["†", "‡"]]


def test_printed_values_are_beneath_ours(report_store: Store) -> None:
    from fssplat.experiment.expand import expand
    from fssplat.experiment.reading import made_experiment
    from fssplat.methods import METHODS
    from fssplat.report import published

    made = made_experiment(published.experiment(published.find("HMFS:2:33")), None)
    trials = expand(made, METHODS)
    cells = tuple(Cell(str(n), one, Result({"miou": 0.4})) for n, one in enumerate(trials))
    row = Row(trials[0].method.label, trials[0].backbone.name, cells)
    block = Block("t", (0, 1, 2, 3), (row,), "t")
    found = evidence(report_store, published=True)
    ours, *printed = main_table(block, found, Comparisons(found)).lines
    assert ours.kind == ""
    assert {line.kind for line in printed} == {"beneath"}
    texts = [[c if isinstance(c, str) else c.shown for c in line.cells] for line in printed]
    (text,) = [one for one in texts if "HMFS:2:33" in str(one[0])]
    assert text[2:7] == ["39.3", "45.7", "46.9", "43.7", "43.9"]
