"""MLflow's own table shows what the paper's table shows."""

import json

from fssplat.tracking.views import (
    address,
    experiment_tags,
    row_of,
    search_tags,
    search_view,
    table_view,
    trials_view,
)
from tests.fakes.trials import trial


def test_only_trials_that_differ_in_fold_or_seed_share_a_row() -> None:
    row = row_of(trial(seed=0, fold=0))
    assert row_of(trial(seed=3, fold=2)) == row
    other = trial().protocol.model_copy(update={"episodes": 7})
    others = [
        trial(shot=5), trial(method="prior"), trial().model_copy(update={"way": 5}),
        trial().model_copy(update={"protocol": other}),
    ]  # fmt: skip
    assert len({row, *(row_of(one) for one in others)}) == 5


def test_the_view_has_a_column_per_fold_and_groups_by_row() -> None:
    view = trials_view(["panet 1-shot"])
    assert [f"metrics.`miou/fold-{fold}`" for fold in range(4)] == view["selectedColumns"][1:5]
    assert view["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "row"}]
    assert view["compareRunCharts"][0]["metricKey"] == "miou"
    assert view["groupsExpanded"] == {"tag.row.panet 1-shot": False}


def test_the_table_has_rows_in_points_and_shows_all_of_them() -> None:
    view = table_view()
    assert view["searchFilter"] == "tags.`fssplat.kind` = 'row'"
    assert view["selectedColumns"][:2] == ["metrics.`miou_points`", "metrics.`points/fold-0`"]
    assert view["orderByKey"] == "metrics.`miou_points`"
    assert view["runsHiddenMode"] == "SHOW_ALL"


def test_rows_are_added_to_a_view_and_an_equal_view_is_not_written() -> None:
    first = experiment_tags(["a"], {})
    assert first["mlflow.experimentKind"] == "custom_model_development"
    assert experiment_tags(["a"], first) == {}
    ((name, value),) = experiment_tags(["b"], first).items()
    assert name == "mlflow.sharedViewState.trials"
    assert set(json.loads(value)["groupsExpanded"]) == {"tag.row.a", "tag.row.b"}
    assert address("3") == "/#/experiments/3/runs?viewStateShareKey=table"


def test_a_search_is_shown_by_its_parameters() -> None:
    view = search_view(["training.lr"])
    assert view["selectedColumns"] == ["metrics.`miou`", "params.`training.lr`"]
    assert view["compareRunCharts"][0]["selectedParams"] == ["training.lr"]
    known = search_tags(["training.lr"], {})
    assert search_tags(["training.lr"], known) == {}
    assert address("3", "search").endswith("viewStateShareKey=search&compareRunsMode=CHART")
