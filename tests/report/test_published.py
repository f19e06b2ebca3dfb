"""The printed results have names and become experiments."""

from collections.abc import Callable

import pytest

from fssplat.common.errors import InputError
from fssplat.report import published


def test_every_row_of_the_data_file_has_a_name_that_finds_it() -> None:
    rows = published.rows()
    assert len(rows) == 620
    assert all(published.find(row.name) is row for row in rows)


def test_a_table_may_be_written_in_several_ways() -> None:
    assert published.find("hmfs:table 2:3") is published.find("HMFS:2:3")
    assert published.find("SD-AANet:IV:1").table == "Table IV"


def test_a_mean_agrees_with_its_folds_unless_the_row_is_marked() -> None:
    off = [
        row
        for row in published.rows()
        if row.mean is not None and None not in row.folds and not row.notes
        if abs(sum(fold for fold in row.folds if fold is not None) / 4 - row.mean) > 0.15
    ]
    assert off == []


def test_the_main_rows_of_our_methods_become_experiments() -> None:
    row = next(
        row for row in published.rows() if row.paper == "MiningFSS" and row.method == "MiningFSS"
    )
    made = published.experiment(row)
    assert made["protocol"] == {"name": "miningfss"}
    assert made["grid"]["method"][0]["name"] == "mining"
    assert made["grid"]["backbone"] == ["resnet50_v2"]  # the paper's network has the deep stem


@pytest.mark.parametrize(
    ("paper", "count"), [("MiningFSS", 42), ("JC2A", 42), ("MM-Net", 26), ("SD-AANet", 22)]
)
def test_every_row_of_a_paper_on_its_own_method_has_known_options(paper: str, count: int) -> None:
    from fssplat.experiment.expand import expand
    from fssplat.experiment.schema import ExperimentSpec
    from fssplat.methods import METHODS

    rows = [row for row in published.rows() if row.paper == row.method == paper]
    made = [published.experiment(row) for row in rows if row.metric == "mIoU"]
    assert len(made) == count
    for experiment in made:
        assert expand(ExperimentSpec.model_validate(experiment), METHODS)


def test_a_domain_shift_row_trains_on_one_data_set_and_scores_on_the_other() -> None:
    row = next(row for row in published.rows() if "->" in row.dataset and row.method == "HMFS")
    made = published.experiment(row)
    assert (made["train_on"], made["dataset"]) == ("coco-20i", "pascal-5i")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: published.find("HMFS"), "name a row as <paper>:<table>:<row>"),
        (lambda: published.find("X:1:1"), "no such paper. Known: JC2A"),
        (lambda: published.find("HMFS:9:1"), "has no such table. Known: Table 1"),
        (lambda: published.find("HMFS:2:999"), "has rows 1 to 40"),
        (lambda: published.experiment(published.find("JC2A:1:1")), "no method here is 'PGNet'"),
    ],
)
def test_the_message_about_a_wrong_row_says_what_is_known(
    call: Callable[[], object], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert expected in str(caught.value)
