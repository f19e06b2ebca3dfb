"""The paper's table as a view that MLflow's pages open with one click.

MLflow keeps a shared view as a tag of the experiment: the state of its run table as JSON. It groups
runs and shows each group's averages, and a run has a number under its own fold alone, so a group
of `ROW` is a row of the table: folds across, then their mean.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fssplat.grid import Trial

KIND = "mlflow.experimentKind"
KIND_VALUE = "custom_model_development"  # opens on runs, not on MLflow's pages for agents
VIEW = "table"
SHARED = "mlflow.sharedViewState."
ROW = "row"  # tag: see `row_of`
FOLDS = range(4)
SECTION = "fssplat-comparison"  # of the charts
BARS = 20  # rows that a chart shows


def experiment_tags(rows: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """The tags that an experiment with these rows lacks; `known` are those that it has."""
    view = table_view(rows)
    try:
        before = json.loads(known.get(f"{SHARED}{VIEW}", "{}"))
    except ValueError:
        before = {}
    view["groupsExpanded"] |= before.get("groupsExpanded", {})
    wanted = {KIND: KIND_VALUE, f"{SHARED}{VIEW}": json.dumps(view, sort_keys=True)}
    return {name: value for name, value in wanted.items() if known.get(name) != value}


def row_of(trial: Trial) -> str:
    """The row of the table that a trial belongs to, whatever its fold and seed."""
    shots = f"{trial.shot}-shot" if trial.way == 1 else f"{trial.way}-way {trial.shot}-shot"
    data = trial.dataset.name
    if trial.train_on.name != data:
        data = f"{trial.train_on.name} to {data}"
    return f"{trial.method.label} {shots} {trial.backbone.name} {data} {trial.protocol.hash}"


def table_address(experiment_id: str) -> str:
    """The page of the table, below MLflow's own address."""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"


def fold_metric(fold: int) -> str:
    """A fold's mIoU by its own name, for the column of that fold."""
    return f"miou/fold-{fold}"


def table_view(rows: Iterable[str]) -> dict[str, Any]:
    """The state of MLflow's run table, in its own words; every row is closed at first."""
    figures = [*(fold_metric(fold) for fold in FOLDS), "miou", "fb_iou", "episodes_per_s"]
    metrics = [f"metrics.`{name}`" for name in figures]
    columns = ["params.`shot`", *metrics, "attributes.`Models`"]
    return {
        "searchFilter": "tags.`fssplat.kind` = 'trial'",
        "orderByKey": "metrics.`miou`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": ROW}],
        },
        "groupsExpanded": {f"tag.{ROW}.{row}": False for row in rows},
        "compareRunSections": [{"uuid": SECTION, "name": "Comparison", "display": True}],
        "compareRunCharts": [_bars(name) for name in ("miou", "fb_iou", "episodes_per_s")],
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
    }


def _bars(metric: str) -> dict[str, Any]:
    """A chart with a bar per row."""
    return {
        "type": "BAR",
        "uuid": f"fssplat-{metric}",
        "metricSectionId": SECTION,
        "metricKey": metric,
        "dataAccessKey": metric,
        "runsCountToCompare": BARS,
        "isGenerated": False,
        "deleted": False,
    }
