"""The rows of MLflow's table: a run for each row of the paper's table, with its numbers in points.

A run of a row is found by its tag `row`. It is written again whenever a trial of the row ends.
"""

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fssplat.experiment.trial import Trial
from fssplat.tracking.names import metric_rows, now_ms, valid_tags
from fssplat.tracking.server.connection import Connection, mlflow_errors
from fssplat.tracking.views import KIND_ROW, ROW, SPEED, fold_points, row_of

SCORES = ("miou", "fb_iou", "episodes_per_s")  # metrics of trials that rows are made of
COLOUR = "mlflow.runColor"  # MLflow's own tag
NAME = "mlflow.runName"  # the same
HUES = 10  # of one level
LEVELS = ((0.75, 0.85), (0.95, 0.5), (0.4, 0.95))  # saturation and brightness, 0 to 1
SHORT = {"resnet": "rn", "efficientnet_": ""}  # start of a backbone's name -> in a row's name


@dataclass(frozen=True)
class TableRow:
    """A row of the table; its metrics are in points (0 to 100), NaN if a fold has no result."""

    row: str  # see `row_of`
    name: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def table_rows(
    trials: Mapping[str, Trial], scores: Mapping[str, Mapping[str, float]]
) -> list[TableRow]:
    """The rows that have a result, from the scores of finished trials by trial id."""
    members: dict[str, list[str]] = {}
    for trial_id, trial in trials.items():
        members.setdefault(row_of(trial), []).append(trial_id)
    names = row_names({row: trials[ids[0]] for row, ids in members.items()})
    return [
        TableRow(row, names[row], _tags(trials, ids), _metrics(trials, ids, scores))
        for row, ids in members.items()
        if any(trial_id in scores for trial_id in ids)
    ]


def row_names(rows: Mapping[str, Trial]) -> dict[str, str]:
    """Method, shot and backbone of each row; data set and protocol if rows differ in them.

    MLflow cuts names of more than about 22 letters, so backbones are short, see `SHORT`.
    """
    parts = {row: _parts(trial) for row, trial in rows.items()}
    columns = list(zip(*parts.values(), strict=True))
    wanted = [place < 3 or len(set(column)) > 1 for place, column in enumerate(columns)]
    return {
        row: " ".join(part for part, use in zip(own, wanted, strict=True) if use)
        for row, own in parts.items()
    }


def _parts(trial: Trial) -> tuple[str, ...]:
    shots = f"{trial.shot}-shot" if trial.way == 1 else f"{trial.way}-way {trial.shot}-shot"
    trained_on, data = trial.train_on.name, trial.dataset.name
    return (
        trial.method.label,
        shots,
        short_backbone(trial.backbone.name),
        data if trained_on == data else f"{trained_on} to {data}",
        trial.protocol.name,
        trial.protocol.hash,
    )


def short_backbone(name: str) -> str:
    """rn101 for resnet101, lite0 for efficientnet_lite0; other names as they are."""
    for long, short in SHORT.items():
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name


def _tags(trials: Mapping[str, Trial], ids: Sequence[str]) -> dict[str, str]:
    one = trials[ids[0]]
    _, shots, _, data, protocol, digest = _parts(one)
    folds = sorted({trials[trial_id].fold for trial_id in ids})
    return {
        "method": one.method.label,
        "shot": shots,
        "backbone": one.backbone.name,
        "dataset": data,
        "protocol": protocol,
        "protocol_hash": digest,
        "folds": ", ".join(map(str, folds)),
    }


def _metrics(
    trials: Mapping[str, Trial], ids: Sequence[str], scores: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    folds = sorted({trials[trial_id].fold for trial_id in ids})
    found: dict[str, float] = {}
    for name in ("miou", "fb_iou"):
        means = [
            _mean(
                [scores[i].get(name, math.nan) for i in ids if _is_on(trials[i], fold, i, scores)]
            )
            for fold in folds
        ]
        found[f"{name}_points"] = 100 * _mean(means)
        if name == "miou":
            found |= {
                fold_points(fold): 100 * mean for fold, mean in zip(folds, means, strict=True)
            }
    speeds = [scores[i]["episodes_per_s"] for i in ids if "episodes_per_s" in scores.get(i, {})]
    found[SPEED] = _mean(speeds)
    return {name: round(value, 2) for name, value in found.items()}  # MLflow cuts long numbers


def _is_on(trial: Trial, fold: int, trial_id: str, scores: Mapping[str, Any]) -> bool:
    return trial.fold == fold and trial_id in scores


def _mean(values: Sequence[float]) -> float:
    """NaN if there is no value, or if one is NaN."""
    return sum(values) / len(values) if values else math.nan


def colour(number: int) -> str:
    """The colour of the row with this number, `#rrggbb`; the first 60 are all different."""
    turn, place = divmod(number, HUES)
    saturation, brightness = LEVELS[turn % len(LEVELS)]
    hue = 3 * place / HUES + turn // len(LEVELS) / (2 * HUES)  # neighbours in number far apart
    parts = colorsys.hsv_to_rgb(hue % 1, saturation, brightness)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


# ------------------------------------------------------------------ in MLflow


def write_rows(connection: Connection, rows: Sequence[TableRow]) -> None:
    """Make or correct the run of each row. Raises MlflowError."""
    with mlflow_errors():
        known = _runs_of_rows(connection)
        for row in rows:
            run = known.get(row.row) or _new_run(connection, row, len(known))
            known[row.row] = run
            _correct(connection, run, row)


def _new_run(connection: Connection, row: TableRow, number: int) -> Any:
    tags = {"fssplat.kind": KIND_ROW, ROW: row.row, COLOUR: colour(number)}
    run = connection.client.create_run(
        connection.experiment_id, tags=valid_tags(tags), run_name=row.name
    )
    connection.client.set_terminated(run.info.run_id, "FINISHED")
    return run


def _correct(connection: Connection, run: Any, row: TableRow) -> None:
    """Write what differs. Metrics keep step 0: MLflow shows the latest of equal steps."""
    from mlflow.entities import RunTag

    had = run.data.metrics
    metrics = {n: v for n, v in row.metrics.items() if not _same(had.get(n, math.nan), v)}
    wanted = valid_tags({**row.tags, NAME: row.name})
    tags = [RunTag(n, v) for n, v in wanted.items() if run.data.tags.get(n) != v]
    if metrics or tags:
        connection.client.log_batch(
            run.info.run_id, metrics=metric_rows(metrics, 0, now_ms()), tags=tags, synchronous=True
        )


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _runs_of_rows(connection: Connection) -> dict[str, Any]:
    """The run of each row, the oldest of several: two launches may have made it at once."""
    found: dict[str, Any] = {}
    token: str | None = None
    while True:
        page = connection.client.search_runs(
            [connection.experiment_id],
            filter_string=f"tags.`fssplat.kind` = '{KIND_ROW}'",
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        for run in page:
            if found.setdefault(run.data.tags.get(ROW, ""), run) is not run:
                connection.client.delete_run(run.info.run_id)
        token = page.token
        if not token:
            return found
