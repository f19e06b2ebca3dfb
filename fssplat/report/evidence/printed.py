"""Which printed results are those of one of our rows: same data, shots, backbone and method."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from fssplat.common.errors import InputError
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.report import published
from fssplat.report.published import PublishedRow


@dataclass(frozen=True)
class Printed:
    """One printed result in per cent, and the rows of papers that print it."""

    names: tuple[str, ...]  # such as `HMFS:2:33` or `JC2A:1:17 (quoted, doubtful)`
    folds: tuple[float | None, ...]
    mean: float | None
    fb_iou: float | None

    @property
    def label(self) -> str:
        return f"printed: {', '.join(self.names)}"

    def fold(self, number: int) -> float | None:
        return self.folds[number] if number < len(self.folds) else None


def printed_of(trial: Trial) -> list[Printed]:
    """Every printed result of the trial's row; results with equal numbers are joined."""
    found: dict[tuple[object, ...], list[str]] = {}
    fb_ious = {_place(row): row.mean for row in published.rows() if row.metric == "FB-IoU"}
    for row in _same(trial):
        numbers = (row.folds, row.mean, fb_ious.get(_place(row)))
        found.setdefault(numbers, []).append(_name(row))
    return [Printed(tuple(names), *numbers) for numbers, names in found.items()]  # type: ignore[arg-type]


def _same(trial: Trial) -> Iterator[PublishedRow]:
    for row in published.rows():
        if row.metric != "mIoU" or row.shot != trial.shot or published.metric(row) != "miou":
            continue
        other = _trial(row)
        if other is None or other.way != trial.way:
            continue
        data = (other.dataset.name, other.train_on.name) == (
            trial.dataset.name,
            trial.train_on.name,
        )
        network = other.backbone.name == trial.backbone.name
        if data and network and other.method == trial.method.model_copy(update={"variant": ""}):
            yield row


@cache
def _trial(row: PublishedRow) -> Trial | None:
    """The first trial of the row's experiment, without the name of its variant; None if it has
    none."""
    from fssplat.methods import METHODS

    try:
        one = expand(ExperimentSpec.model_validate(published.experiment(row)), METHODS)[0]
    except (InputError, ValueError):
        return None
    return one.model_copy(update={"method": one.method.model_copy(update={"variant": ""})})


def _place(row: PublishedRow) -> tuple[object, ...]:
    return row.paper, row.table, row.dataset, row.method, row.variant, row.backbone, row.shot


def _name(row: PublishedRow) -> str:
    words = ["quoted"] * row.quoted + ["doubtful"] * row.doubtful
    return f"{row.name} ({', '.join(words)})" if words else row.name
