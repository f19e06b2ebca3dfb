"""The runs that are rows of MLflow's table: names, numbers in points, colours."""

import math
from itertools import combinations
from pathlib import Path

import pytest

from fssplat.tracking.runs import Tracking, TrialRun, open_tracking
from fssplat.tracking.table_rows import colour, row_names, short_backbone, table_rows
from tests.fakes.trials import trial

FOLDS = {f"t{fold}": trial(fold=fold) for fold in (0, 1)}
SCORES = {"t0": {"miou": 0.4, "fb_iou": 0.6}, "t1": {"miou": 0.51236, "fb_iou": 0.7}}


def test_a_row_has_its_folds_and_their_mean_in_points() -> None:
    (row,) = table_rows(FOLDS, SCORES)
    assert row.metrics["points/fold-0"] == 40.0
    assert row.metrics["points/fold-1"] == 51.24
    assert row.metrics["miou_points"] == 45.62
    assert row.metrics["fb_iou_points"] == 65.0
    assert row.tags["folds"] == "0, 1"


def test_a_row_has_no_mean_before_all_folds_have_a_result() -> None:
    (row,) = table_rows(FOLDS, {"t0": SCORES["t0"]})
    assert row.metrics["points/fold-0"] == 40.0
    assert math.isnan(row.metrics["miou_points"])
    assert table_rows(FOLDS, {}) == []


def test_folds_with_more_seeds_do_not_count_more() -> None:
    trials = {"a": trial(fold=0, seed=0), "b": trial(fold=0, seed=1), "c": trial(fold=1, seed=0)}
    (row,) = table_rows(trials, {"a": {"miou": 0.2}, "b": {"miou": 0.4}, "c": {"miou": 0.5}})
    assert row.metrics["miou_points"] == 40.0


def test_names_start_with_method_shot_and_backbone_and_differ() -> None:
    one, more = trial(), trial(shot=5)
    other = one.model_copy(update={"protocol": one.protocol.model_copy(update={"episodes": 7})})
    names = row_names({"a": one, "b": more})
    assert set(names.values()) == {"panet 1-shot rn50", "panet 5-shot rn50"}
    names = row_names({"a": one, "b": other})
    assert names["a"] == f"panet 1-shot rn50 {one.protocol.hash}"
    assert names["b"] == f"panet 1-shot rn50 {other.protocol.hash}"
    assert short_backbone("resnet101_v2") == "rn101_v2"
    assert short_backbone("efficientnet_lite0") == "lite0"
    assert short_backbone("vgg16") == "vgg16"


def test_colours_of_many_rows_are_different() -> None:
    colours = [colour(number) for number in range(30)]
    places = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in colours]
    nearest = min(math.dist(one, other) for one, other in combinations(places, 2))
    assert nearest > 25
    assert len({colour(number) for number in range(60)}) == 60
    assert all(max(place) - min(place) > 60 for place in places)  # none is grey


@pytest.fixture
def tracking(tmp_path: Path, empty_database: Path) -> Tracking:
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    found = open_tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", "rows")
    found.runs = {i: TrialRun(i, delivered=True, scores=SCORES[i]) for i in FOLDS}
    return found


def test_a_row_is_one_run_that_is_corrected(tracking: Tracking) -> None:
    tracking.write_table(FOLDS)
    tracking.runs["t0"] = TrialRun("t0", delivered=True, scores={"miou": 0.6})
    tracking.write_table(FOLDS)
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert run.info.run_name == "panet 1-shot rn50"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["points/fold-0"] == 60.0
    assert run.data.metrics["miou_points"] == 55.62
    assert run.data.tags["mlflow.runColor"] == colour(0)
    assert run.data.tags["fssplat.kind"] == "row"


def test_of_two_runs_of_a_row_the_older_one_is_kept(tracking: Tracking) -> None:
    tracking.write_table(FOLDS)
    (first,) = tracking.client.search_runs([tracking.experiment_id])
    copy = {k: v for k, v in first.data.tags.items() if not k.startswith("mlflow.")}
    tracking.client.create_run(tracking.experiment_id, tags=copy)
    tracking.write_table(FOLDS)
    (left,) = tracking.client.search_runs([tracking.experiment_id])
    assert left.info.run_id == first.info.run_id
