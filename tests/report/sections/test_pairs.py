"""Any pair of rows, by the small store."""

from typing import Any

import numpy as np
import pytest

from fssplat.report.evidence.gather import Evidence
from fssplat.report.figures.ranks import critical_differences
from fssplat.report.figures.style import inline_svg
from fssplat.report.sections.pairs import matrix, pair_list, rank_figure
from fssplat.report.statistics.compared import Comparisons
from fssplat.report.statistics.multiple import holm, ranking
from fssplat.results.store import Store
from tests.fakes.report_stores import evidence


@pytest.fixture(scope="module")
def made(report_store: Store) -> tuple[Evidence, Any, Any, Any]:
    found = evidence(report_store)
    (block,) = found.blocks
    compared = Comparisons(found).of(block)
    p = holm({key: pair.images.p for key, pair in compared.pairs.items()})
    return found, block, compared, {frozenset(key): value for key, value in p.items()}


def test_a_difference_is_that_of_the_main_table_with_the_opposite_sign_mirrored(made: Any) -> None:
    _, block, compared, corrected = made
    table = matrix(block, compared, corrected)
    means = [row.mean(block.folds) for row in compared.rows]
    for i, line in enumerate(table.lines):
        for j, cell in enumerate(line.cells[1:]):
            if i == j:
                assert cell == ""
                continue
            mirrored = table.lines[j].cells[1 + i]
            assert cell.number == pytest.approx(means[i] - means[j])
            assert cell.interval == pytest.approx((-mirrored.interval[1], -mirrored.interval[0]))
            assert cell.marks == mirrored.marks
    assert any(cell.marks == "*" for cell in table.lines[0].cells[1:] if cell)


def test_the_list_has_each_pair_once_with_the_better_row_first(made: Any) -> None:
    _, block, compared, corrected = made
    table = pair_list(block, compared, corrected)
    assert len(table.lines) == 3
    for line in table.lines:
        by_image, by_class, p, p_holm = line.cells[2:]
        assert by_image.number >= 0
        assert by_image.number == by_class.number
        assert p.number <= p_holm.number <= 1


def test_ranks_are_over_folds_and_classes(made: Any) -> None:
    found, block, compared, _ = made
    (figure,) = rank_figure(block, compared, found)
    assert "10 fold and class pairs" in figure.caption
    ranks = [line.cells[1].number for line in figure.data.lines]
    assert sum(ranks) == pytest.approx(6)
    assert min(ranks) == ranks[2]  # hsnet leads


def test_a_diagram_shows_every_name_and_the_critical_difference() -> None:
    scores = np.random.default_rng(0).random((9, 20))
    found = ranking(scores.tolist())
    assert found is not None
    names = [f"method {n}" for n in range(9)]
    text = inline_svg(critical_differences(names, found), "ranks")
    for name, rank in zip(names, found.ranks, strict=True):
        assert f"{name}  {rank:.2f}" in text
    assert f"CD {found.critical:.2f}" in text
