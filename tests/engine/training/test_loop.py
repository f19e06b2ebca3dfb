"""Training: same bits after kills, stops and lack of memory; an error if it diverges."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from fssplat.common.errors import InputError
from fssplat.data.batch import EpisodeBatch
from fssplat.engine import checkpoint
from fssplat.engine.events import Event, StepDone, TrainingDone, TrainingStarted, WeightsScored
from fssplat.engine.settings import Diverged, Interrupted, RunSettings
from fssplat.engine.training.loop import train
from fssplat.engine.training.step import sizes_of_parts
from tests.fakes.processes.training import SETTINGS
from tests.fakes.prototype_method import (
    PrototypeMethod,
    SquaresData,
    prototype_network,
    prototype_trial,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing interrupted."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    train(prototype_network(), prototype_trial(), SquaresData(), folder, settings=SETTINGS)
    return folder


def final(folder: Path) -> dict[str, Tensor]:
    return checkpoint.load(folder / "weights.safetensors").group("weights")


def assert_same_training(one: Path, other: Path) -> None:
    """Bit-identical weights and the same loss curve."""
    ours, theirs = final(one), final(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    assert pq.read_table(one / "steps.parquet").equals(pq.read_table(other / "steps.parquet"))


def test_training_lowers_the_loss_and_logs_every_step(whole: Path) -> None:
    log = pq.read_table(whole / "steps.parquet").to_pydict()
    assert log["step"] == list(range(1, 15))
    assert log["lr"][0] == 0.1
    assert log["total"][0] == pytest.approx(log["segmentation"][0] + 0.5 * log["half"][0])
    assert sum(log["total"][-4:]) < sum(log["total"][:4])
    assert sorted(path.name for path in whole.iterdir()) == [
        "steps.parquet",
        "weights.safetensors",
    ]


@pytest.mark.parametrize(
    ("after", "saved", "seed"),
    [
        pytest.param(2, 0, 0, marks=pytest.mark.slow),
        (6, 4, 9),
        pytest.param(9, 8, 9, marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_ends_with_the_same_bits(
    whole: Path, tmp_path: Path, after: int, saved: int, seed: int
) -> None:
    """Killed once losses up to step `after` were read; nothing saved comes from the seed."""
    command = [sys.executable, "-m", "tests.fakes.processes.training", str(tmp_path), "0.02"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= after:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "weights.safetensors").exists()
    events: list[Event] = []
    train(
        prototype_network(seed),
        prototype_trial(),
        SquaresData(),
        tmp_path,
        events.append,
        settings=SETTINGS,
    )
    assert isinstance(events[0], TrainingStarted)
    assert events[0].first_step == saved
    assert_same_training(whole, tmp_path)


def test_a_stopped_training_resumes_from_its_checkpoint(whole: Path, tmp_path: Path) -> None:
    for limit in (3, 5, 9):
        with pytest.raises(Interrupted, match=f"step {limit}"):
            train(
                prototype_network(), prototype_trial(), SquaresData(), tmp_path,
                stop=after_calls(limit - last_step(tmp_path)), settings=SETTINGS,
            )  # fmt: skip
    train(prototype_network(), prototype_trial(), SquaresData(), tmp_path, settings=SETTINGS)
    assert_same_training(whole, tmp_path)


def after_calls(count: int) -> Callable[[], bool]:
    calls = iter([False] * count + [True])
    return lambda: next(calls)


def last_step(folder: Path) -> int:
    found = checkpoint.load_latest(folder / "checkpoints")
    return found.header.step if found else 0


def test_a_damaged_newest_checkpoint_changes_no_bit_of_the_result(
    whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(
            prototype_network(), prototype_trial(), SquaresData(), tmp_path,
            stop=after_calls(10), settings=SETTINGS,
        )  # fmt: skip
    newest = max((tmp_path / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    train(prototype_network(), prototype_trial(), SquaresData(), tmp_path, settings=SETTINGS)
    assert_same_training(whole, tmp_path)


def test_how_often_losses_are_read_and_saved_changes_nothing(whole: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, fetch_steps=1, checkpoint_steps=100, checkpoint_seconds=0.0)
    train(prototype_network(), prototype_trial(), SquaresData(), tmp_path, settings=settings)
    assert_same_training(whole, tmp_path)


def test_a_finished_training_is_only_read_back(whole: Path) -> None:
    before = (whole / "weights.safetensors").stat().st_mtime_ns
    events: list[Event] = []
    network = prototype_network(seed=3)
    train(network, prototype_trial(), SquaresData(), whole, events.append, settings=SETTINGS)
    assert [type(event) for event in events] == [TrainingDone]
    assert torch.equal(network.head[0].weight, final(whole)["head.0.weight"])
    assert not network.training
    assert (whole / "weights.safetensors").stat().st_mtime_ns == before


def test_the_weights_of_another_method_are_refused(whole: Path) -> None:
    trial = prototype_trial()
    other = trial.model_copy(update={"method": trial.method.model_copy(update={"name": "other"})})
    with pytest.raises(InputError, match="checkpoint is for method tiny, expected other"):
        train(prototype_network(), other, SquaresData(), whole, settings=SETTINGS)


class Greedy(PrototypeMethod):
    """Runs out of memory above one episode, after it has drawn and changed its buffers."""

    def training_losses(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        losses = super().training_losses(batch)
        if len(batch) > 1:
            raise torch.OutOfMemoryError("injected")
        return losses


def test_lack_of_memory_halves_the_micro_batch_and_repeats_the_step(tmp_path: Path) -> None:
    trials = [prototype_trial(steps=3), prototype_trial(steps=3, micro_batch=1)]
    for name, trial, method in zip("ab", trials, (Greedy, PrototypeMethod), strict=True):
        network = prototype_network()
        network.__class__ = method
        train(network, trial, SquaresData(), tmp_path / name, settings=SETTINGS)
    assert_same_training(tmp_path / "a", tmp_path / "b")


class Huge(PrototypeMethod):
    def training_losses(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("injected")


def test_one_episode_that_does_not_fit_is_an_input_error(tmp_path: Path) -> None:
    network = prototype_network()
    network.__class__ = Huge
    with pytest.raises(InputError, match="one training episode of 32 pixels does not fit"):
        train(network, prototype_trial(), SquaresData(), tmp_path, settings=SETTINGS)


class Steady(PrototypeMethod):
    """Without dropout and with fixed statistics, since a micro-batch has others than its batch."""

    def train(self, mode: bool = True) -> "Steady":
        return super().train(False)

    def training_losses(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """The mean over episodes alone; the square of a mean does not add up."""
        return {**super().training_losses(batch), "half": torch.zeros(())}


def test_micro_batches_add_up_to_the_batchs_gradient(tmp_path: Path) -> None:
    found = []
    for micro in (None, 3, 2):
        network = prototype_network()
        network.__class__ = Steady
        trial = prototype_trial(steps=1, micro_batch=micro)
        train(network, trial, SquaresData(), tmp_path / str(micro), settings=SETTINGS)
        found.append(final(tmp_path / str(micro))["head.0.weight"])
    assert torch.allclose(found[0], found[1], atol=1e-5)
    assert torch.allclose(found[0], found[2], atol=1e-5)


class Unstable(PrototypeMethod):
    def training_losses(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        losses = super().training_losses(batch)
        bad = self.average * 0 + (float("nan") if self.steps_seen == 5 else 0.0)
        self.steps_seen += 1
        return {name: value + bad for name, value in losses.items()}

    steps_seen = 0


def test_a_loss_that_is_not_finite_ends_the_training_and_names_its_step(tmp_path: Path) -> None:
    network = prototype_network()
    network.__class__ = Unstable
    events: list[Event] = []
    with pytest.raises(Diverged, match="diverged at step 6: segmentation nan"):
        train(network, prototype_trial(), SquaresData(), tmp_path, events.append, settings=SETTINGS)
    assert json.loads((tmp_path / "diverged.json").read_text())["step"] == 6
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4, 5]
    found = checkpoint.load_latest(tmp_path / "checkpoints")
    assert found is not None
    assert found.header.step == 4  # what was saved is finite


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "adam", "lr": 1e-2},
        {"clip": 0.1},
        {"precision": "bf16"},
        {"schedule": "step", "milestones": (0.5,)},
    ],
)
def test_every_recipe_resumes_exactly(tmp_path: Path, training: dict[str, object]) -> None:
    trial = prototype_trial(steps=6, **training)
    train(prototype_network(), trial, SquaresData(), tmp_path / "a", settings=SETTINGS)
    with pytest.raises(Interrupted):
        train(
            prototype_network(), trial, SquaresData(), tmp_path / "b",
            stop=after_calls(3), settings=SETTINGS,
        )  # fmt: skip
    train(prototype_network(4), trial, SquaresData(), tmp_path / "b", settings=SETTINGS)
    assert_same_training(tmp_path / "a", tmp_path / "b")


def test_a_backbone_with_trained_weights_or_updated_statistics_resumes_exactly(
    tmp_path: Path,
) -> None:
    for name, layout in (("drift", {"batch_statistics": True}), ("train", {"frozen": False})):
        a, b = tmp_path / name / "a", tmp_path / name / "b"
        train(prototype_network(**layout), prototype_trial(), SquaresData(), a, settings=SETTINGS)
        with pytest.raises(Interrupted):
            train(
                prototype_network(**layout), prototype_trial(), SquaresData(), b,
                stop=after_calls(6), settings=SETTINGS,
            )  # fmt: skip
        train(prototype_network(**layout), prototype_trial(), SquaresData(), b, settings=SETTINGS)
        assert_same_training(a, b)
        assert any(key.startswith("backbone.") for key in final(a))


class Peaks:
    """A selection whose score draws random numbers, and is highest at step 4."""

    def due(self, step: int, steps: int) -> bool:
        return step % 2 == 0

    def score(self, network: PrototypeMethod) -> float:
        torch.rand(5)
        assert not network.training
        self.calls = getattr(self, "calls", 0) + 1
        return [0.1, 0.9, 0.2, 0.9, 0.3, 0.0, 0.0][self.calls - 1]


def test_the_best_weights_are_kept_and_selection_changes_no_step(
    whole: Path, tmp_path: Path
) -> None:
    events: list[Event] = []
    header = train(
        prototype_network(),
        prototype_trial(),
        SquaresData(),
        tmp_path,
        events.append,
        settings=SETTINGS,
        selection=Peaks(),
    )
    assert header.state["best"] == {"step": 4, "score": 0.9}
    scored = [(one.step, one.score) for one in events if isinstance(one, WeightsScored)]
    scores = [0.1, 0.9, 0.2, 0.9, 0.3, 0.0, 0.0]
    assert scored == list(zip(range(2, 15, 2), scores, strict=True))
    short = tmp_path / "short"
    with pytest.raises(Interrupted):
        train(
            prototype_network(), prototype_trial(), SquaresData(), short,
            stop=after_calls(4), settings=SETTINGS,
        )  # fmt: skip
    at_four = checkpoint.load_latest(short / "checkpoints")
    assert at_four is not None
    assert torch.equal(final(tmp_path)["head.0.weight"], at_four.group("weights")["head.0.weight"])
    assert pq.read_table(tmp_path / "steps.parquet").equals(pq.read_table(whole / "steps.parquet"))


def test_zero_steps_change_no_weight(tmp_path: Path) -> None:
    network = prototype_network()
    before = network.head[0].weight.detach().clone()
    header = train(
        network, prototype_trial(steps=0), SquaresData(), tmp_path, settings=RunSettings()
    )
    assert torch.equal(network.head[0].weight, before)
    assert header.steps == 0


@pytest.mark.parametrize(
    ("most", "least", "expected"),
    [(5, 1, [5]), (4, 1, [3, 2]), (2, 1, [2, 2, 1]), (2, 2, [3, 2]), (1, 2, [3, 2]), (9, 2, [5])],
)
def test_five_episodes_are_cut_evenly_and_no_part_is_too_small(
    most: int, least: int, expected: list[int]
) -> None:
    assert sizes_of_parts(5, most, least) == expected
