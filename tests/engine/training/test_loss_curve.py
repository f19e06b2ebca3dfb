"""The loss curve: parts while a training runs, one file at its end, losses checked on reading."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from fssplat.engine.events import Event, StepDone
from fssplat.engine.settings import Diverged
from fssplat.engine.training.loss_curve import LossLog
from fssplat.engine.training.losses import UnreadLosses


def add_steps(log: LossLog, first: int, last: int) -> None:
    log.add([{"step": step, "total": step / 10} for step in range(first, last + 1)])


def steps_in(path: Path) -> list[int]:
    return pq.read_table(path).column("step").to_pylist()  # type: ignore[no-any-return]


def test_a_resumed_log_has_every_step_once(tmp_path: Path) -> None:
    log = LossLog(tmp_path)
    for first, last in ((1, 4), (5, 8)):
        add_steps(log, first, last)
        log.flush()
    resumed = LossLog(tmp_path)
    resumed.forget_after(4)  # the checkpoint of step 8 was damaged
    add_steps(resumed, 5, 9)
    assert resumed.finish() == tmp_path / "steps.parquet"
    assert steps_in(tmp_path / "steps.parquet") == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_without_steps_there_is_no_file(tmp_path: Path) -> None:
    log = LossLog(tmp_path)
    log.flush()
    assert log.finish() is None
    assert list(tmp_path.iterdir()) == []


def test_read_losses_are_emitted_with_their_step_and_rate(tmp_path: Path) -> None:
    events: list[Event] = []
    losses = UnreadLosses(LossLog(tmp_path), events.append, lambda done: done / 100)
    for value in (0.5, 0.25):
        losses.add(torch.tensor([value, 2 * value]))
    assert len(losses) == 2
    losses.read(8, ("segmentation",))
    assert len(losses) == 0
    assert events == [
        StepDone(7, {"segmentation": 0.5, "total": 1.0}, 0.06),
        StepDone(8, {"segmentation": 0.25, "total": 0.5}, 0.07),
    ]


def test_the_first_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    events: list[Event] = []
    losses = UnreadLosses(LossLog(tmp_path), events.append, lambda done: 0.1)
    for value in (0.5, float("inf"), float("nan")):
        losses.add(torch.tensor([value, value]))
    with pytest.raises(Diverged, match="diverged at step 2: segmentation inf"):
        losses.read(3, ("segmentation",))
    assert len(events) == 1
    assert json.loads((tmp_path / "diverged.json").read_text())["losses"]["total"] == "inf"
