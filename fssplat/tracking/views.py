"""Views that MLflow's pages open with one click: the paper's table, and the points of a search.

MLflow stores a shared view as a tag of the experiment: the state of its run table as JSON.
In the view `table` a run is a row of the paper's table, see `table_rows`. The view `trials` groups
the runs of trials by `ROW` and shows each group's averages. A trial has a number only in the
column of its own fold, so a group has folds across, then their mean.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fssplat.experiment.trial import Trial

KIND = "mlflow.experimentKind"
KIND_VALUE = "custom_model_development"  # opens the runs, not MLflow's pages for agents
VIEW, TRIALS, SEARCH = "table", "trials", "search"
SHARED = "mlflow.sharedViewState."
ROW = "row"  # tag: see `row_of`
SPEED = "episodes/s"  # metric of rows; MLflow cuts a longer heading
KIND_ROW = "row"  # of runs that are rows of the table
FOLDS = 4  # columns, or more if a data set has more folds
SECTION = "fssplat-comparison"  # of the charts
SHOWN = 100  # rows or points in a chart


def experiment_tags(
    rows: Iterable[str], known: Mapping[str, str], folds: int = FOLDS
) -> dict[str, str]:
    """The tags to add to an experiment with these rows; `known` are those that it has."""
    view = trials_view(rows, folds)
    try:
        before = json.loads(known.get(f"{SHARED}{TRIALS}", "{}"))
    except ValueError:
        before = {}
    view["groupsExpanded"] |= before.get("groupsExpanded", {})
    wanted = {
        KIND: KIND_VALUE,
        f"{SHARED}{VIEW}": json.dumps(table_view(folds), sort_keys=True),
        f"{SHARED}{TRIALS}": json.dumps(view, sort_keys=True),
    }
    return {name: value for name, value in wanted.items() if known.get(name) != value}


def row_of(trial: Trial) -> str:
    """The name of a trial's row in the table; trials of all folds and seeds share it."""
    shots = f"{trial.shot}-shot" if trial.way == 1 else f"{trial.way}-way {trial.shot}-shot"
    data = trial.dataset.name
    if trial.train_on.name != data:
        data = f"{trial.train_on.name} to {data}"
    return f"{trial.method.label} {shots} {trial.backbone.name} {data} {trial.protocol.hash}"


def search_tags(parameters: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """The tags to add to an experiment with a search over these parameters."""
    view = search_view(list(parameters))
    wanted = {KIND: KIND_VALUE, f"{SHARED}{SEARCH}": json.dumps(view, sort_keys=True)}
    return {name: value for name, value in wanted.items() if known.get(name) != value}


def address(experiment_id: str, view: str = VIEW) -> str:
    """The address of a view's page, relative to MLflow's; a search opens on its charts."""
    charts = "&compareRunsMode=CHART" if view == SEARCH else ""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={view}{charts}"


def fold_metric(fold: int) -> str:
    """The metric with the mIoU of one fold, for the column of that fold."""
    return f"miou/fold-{fold}"


def fold_points(fold: int) -> str:
    """The same in points, for a row of the table."""
    return f"points/fold-{fold}"  # MLflow cuts longer headings


def table_view(folds: int = FOLDS) -> dict[str, Any]:
    """The rows of the table, best first, in points."""
    figures = ["miou_points", *(fold_points(fold) for fold in range(folds))]
    figures += ["fb_iou_points", SPEED]
    tags = [f"tags.`{name}`" for name in ("dataset", "folds", "protocol")]
    columns = [*(f"metrics.`{name}`" for name in figures), *tags]
    charts = [_bars(name) for name in ("miou_points", "fb_iou_points", SPEED)]
    return {**_view(KIND_ROW, columns, charts), "orderByKey": "metrics.`miou_points`"}


def trials_view(rows: Iterable[str], folds: int = FOLDS) -> dict[str, Any]:
    """The state of MLflow's run table in MLflow's own keys; every row is closed at first."""
    figures = [*(fold_metric(fold) for fold in range(folds)), "miou", "fb_iou", "episodes_per_s"]
    metrics = [f"metrics.`{name}`" for name in figures]
    columns = ["params.`shot`", *metrics, "attributes.`Models`"]
    charts = [_bars(name) for name in ("miou", "fb_iou", "episodes_per_s")]
    return {
        **_view("trial", columns, charts),
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": ROW}],
        },
        "groupsExpanded": {f"tag.{ROW}.{row}": False for row in rows},
        "useGroupedValuesInCharts": True,
    }


def search_view(parameters: list[str]) -> dict[str, Any]:
    """The points of a search, best first, and a chart of lines from settings to mIoU."""
    columns = ["metrics.`miou`", *(f"params.`{name}`" for name in parameters)]
    lines = {
        **_chart("PARALLEL", "lines"),
        "selectedParams": parameters,
        "selectedMetrics": ["miou"],
    }
    return _view("point", columns, [lines, _bars("miou")])


def _view(kind: str, columns: list[str], charts: list[dict[str, Any]]) -> dict[str, Any]:
    """The keys that all views share: runs of one kind, sorted by mIoU."""
    return {
        "searchFilter": f"tags.`fssplat.kind` = '{kind}'",
        "orderByKey": "metrics.`miou`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "compareRunSections": [{"uuid": SECTION, "name": "Comparison", "display": True}],
        "compareRunCharts": charts,
        "hideEmptyCharts": True,
        "runsHiddenMode": "SHOW_ALL",
    }


def _bars(metric: str) -> dict[str, Any]:
    """A chart with a bar per row."""
    return {**_chart("BAR", metric), "metricKey": metric, "dataAccessKey": metric}


def _chart(kind: str, name: str) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": f"fssplat-{name}",
        "metricSectionId": SECTION,
        "runsCountToCompare": SHOWN,
        "isGenerated": False,
        "deleted": False,
    }
