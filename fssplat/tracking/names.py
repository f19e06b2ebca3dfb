"""The names and values under which MLflow shows a trial: tags, parameters, metrics, curves."""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fssplat.experiment.trial import Trial
from fssplat.results.notes import LossAtStep, curve_stride
from fssplat.tracking import views

PARAM_LENGTH = 6000  # MLflow's own limits
TAG_LENGTH = 5000


def trial_tags(trial: Trial, trial_id: str) -> dict[str, str]:
    """The tags that a trial's run is found and grouped by."""
    return {
        "fssplat.kind": "trial",
        "fssplat.trial_id": trial_id,
        "dataset": trial.dataset.name,
        "fold": str(trial.fold),
        "shot": str(trial.shot),
        views.ROW: views.row_of(trial),
        "method": trial.method.label,
        "backbone": trial.backbone.name,
        "seed": str(trial.training.seed),
        "protocol": f"{trial.protocol.name} {trial.protocol.hash}",
    }


def model_name(trial: Trial) -> str:
    """Method, backbone, data set and fold, with a dash for letters that MLflow refuses."""
    parts = (trial.method.label, trial.backbone.name, trial.train_on.name, f"fold-{trial.fold}")
    return re.sub(r"[^\w\-]+", "-", " ".join(parts))


def parameters(trial: Trial) -> dict[str, str]:
    """The resolved spec, flat: `training.lr` -> `0.0025`; equal values give equal texts."""
    return {key: value[:PARAM_LENGTH] for key, value in flattened(trial.canonical())}


def flattened(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and canonical strings of all leaves; a list is one leaf."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flattened(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        yield _key(prefix), text


def curve_of(path: Path) -> list[LossAtStep]:
    """The thinned losses of a training's Parquet file, at the steps that are shown live too."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pylist()
    if not rows:
        return []
    last = int(rows[-1]["step"])
    stride = curve_stride(last)
    shown = [row for row in rows if row["step"] % stride == 0 or row["step"] in (1, last)]
    names = [name for name in rows[0] if name not in ("step", "lr")]
    return [
        LossAtStep(int(row["step"]), {name: row[name] for name in names}, row["lr"])
        for row in shown
    ]


def metric_rows(values: Mapping[str, float], step: int, at_ms: int) -> list[Any]:
    """MLflow's metric records, by name; infinite values become NaN, which MLflow accepts."""
    from mlflow.entities import Metric

    return [
        Metric(_key(name), value if math.isfinite(value) else math.nan, at_ms, step)
        for name, value in sorted(values.items())
    ]


def _key(text: str) -> str:
    """Replace the letters that MLflow refuses in a key."""
    return re.sub(r"[^\w\-. /:]", "_", text)


def valid_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags without empty values, each no longer than MLflow accepts."""
    return {key: value[:TAG_LENGTH] for key, value in tags.items() if value}


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
