"""Whole jobs on synthetic images, with the real methods and a small real backbone."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fssplat.common.errors import InputError
from fssplat.data.folds import novel_classes
from fssplat.data.transforms import Mode, fit, normalise
from fssplat.engine import checkpoint
from fssplat.engine.base_images import BaseImages
from fssplat.engine.events import (
    Event,
    StepDone,
    TrainingDone,
    TrainingStarted,
    TrialScored,
    TrialSkipped,
)
from fssplat.engine.run import JobData, run_job, score_checkpoint
from fssplat.engine.settings import Interrupted, RunSettings
from fssplat.engine.training.selection import EPISODES
from fssplat.experiment.protocols import PROTOCOLS
from fssplat.experiment.schema import DatasetSpec
from fssplat.experiment.trial import Job
from fssplat.methods import METHODS
from fssplat.methods.jc2a import JC2A
from tests.fakes.synthetic_jobs import SIZE, synthetic_job

ROOT = Path(__file__).resolve().parents[2]


def settings(folder: Path, workers: int = 0) -> RunSettings:
    return RunSettings(
        device=torch.device("cpu"),
        workers=workers,
        artefacts=folder / "artefacts",
        fetch_steps=2,
        checkpoint_steps=3,
    )


def test_shots_share_one_training(synthetic: Path, tmp_path: Path) -> None:
    job = synthetic_job(synthetic, "hsnet", (1, 5))
    events: list[Event] = []
    results = run_job(job, JobData.open(job), tmp_path, events.append, settings=settings(tmp_path))
    assert list(results) == list(job.trial_ids)
    assert sum(isinstance(event, TrainingStarted) for event in events) == 1
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4]
    assert sum(isinstance(event, TrialScored) for event in events) == 2
    for trial_id, metrics in results.items():
        assert 0 <= metrics["miou"] <= 1
        assert metrics["learnable_parameters"] > 2e6
        assert metrics["train_seconds"] > 0
        table = pq.read_table(tmp_path / "trials" / trial_id / "episodes.parquet")
        assert table.num_rows == 2 * 6 * 2
        assert len(list((tmp_path / "trials" / trial_id / "panels").iterdir())) == 3
    assert pq.read_table(tmp_path / "steps.parquet").num_rows == 4


def test_a_second_call_only_reads_back(synthetic: Path, tmp_path: Path) -> None:
    job = synthetic_job(synthetic, "pfenet")
    data = JobData.open(job)
    first = run_job(job, data, tmp_path, settings=settings(tmp_path))
    events: list[Event] = []
    assert run_job(job, data, tmp_path, events.append, settings=settings(tmp_path)) == first
    assert [type(event) for event in events] == [TrainingDone, TrialScored]


def test_a_job_stopped_anywhere_ends_with_the_same_numbers(synthetic: Path, tmp_path: Path) -> None:
    job = synthetic_job(synthetic, "hsnet", (1, 5))
    data = JobData.open(job)
    whole = run_job(job, data, tmp_path / "a", settings=settings(tmp_path))
    for calls in (2, 6, 15):  # within the training, the first trial and the second
        left = iter([False] * calls + [True])
        with pytest.raises(Interrupted):
            run_job(job, data, tmp_path / "b", stop=lambda: next(left), settings=settings(tmp_path))  # noqa: B023
    again = run_job(job, data, tmp_path / "b", settings=settings(tmp_path))
    for trial_id, metrics in whole.items():
        for name in ("miou", "fb_iou", "miou_33", "miou_std"):
            assert again[trial_id][name] == metrics[name]


def test_the_prior_needs_neither_training_nor_training_images(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> NoReturn:
        raise InputError("too few training images for an episode")

    monkeypatch.setattr(JobData, "batches", none)
    job = synthetic_job(synthetic, "prior")
    events: list[Event] = []
    (metrics,) = run_job(
        job, JobData.open(job), tmp_path, events.append, settings=settings(tmp_path)
    ).values()
    assert not any(isinstance(event, StepDone) for event in events)
    assert metrics["learnable_parameters"] == 0
    assert metrics["miou"] > 0


def test_a_checkpoint_is_scored_like_its_job(synthetic: Path, tmp_path: Path) -> None:
    job = synthetic_job(synthetic, "hsnet")
    data = JobData.open(job)
    (metrics,) = run_job(job, data, tmp_path / "a", settings=settings(tmp_path)).values()
    weights = tmp_path / "a/weights.safetensors"
    again = score_checkpoint(job.first, weights, data, tmp_path / "b", settings=settings(tmp_path))
    assert again["miou"] == metrics["miou"]
    other = synthetic_job(synthetic, "pfenet")
    with pytest.raises(InputError, match="checkpoint is for method hsnet, expected pfenet"):
        score_checkpoint(other.first, weights, data, tmp_path / "c", settings=settings(tmp_path))


def test_a_fold_without_episodes_is_skipped_untrained(synthetic: Path, tmp_path: Path) -> None:
    job = synthetic_job(synthetic, "pfenet", (500,))
    events: list[Event] = []
    assert run_job(job, JobData.open(job), tmp_path, events.append) == {}
    (event,) = events
    assert isinstance(event, TrialSkipped)
    assert "500-shot" in event.reason
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("selection", ["base-val", "novel-best"])
def test_weights_can_be_selected(
    synthetic: Path, tmp_path: Path, selection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EPISODES, selection, 5)
    job = synthetic_job(synthetic, "hsnet", selection=selection)
    data = JobData.open(job)
    best = data.selection(job.first, torch.device("cpu"))
    assert best is not None
    novel = set(novel_classes(data.dataset(job.first).info, 0, job.first.protocol))
    assert (set(best.classes) <= novel) is (selection == "novel-best")
    run_job(job, data, tmp_path, settings=settings(tmp_path))
    chosen = checkpoint.load(tmp_path / "weights.safetensors").header.state["best"]
    assert 1 <= chosen["step"] <= 4
    assert 0 <= chosen["score"] <= 1
    (notes,) = tmp_path.glob("trials/*/notes.json")
    assert ("novel classes' own scores" in notes.read_text()) is (selection == "novel-best")


def test_a_rebuilt_data_set_is_noticed(synthetic: Path) -> None:
    job = synthetic_job(synthetic, "prior")
    with pytest.raises(InputError, match=r"changed since planning .*was old\)\. Launch again"):
        JobData.open(job, {"synthetic": "old"})


def test_another_data_set_at_the_root_is_named(synthetic: Path) -> None:
    job = synthetic_job(synthetic, "prior")
    other = DatasetSpec(name="pascal-5i", root=str(synthetic))
    trial = job.first.model_copy(update={"dataset": other, "train_on": other})
    with pytest.raises(InputError, match=r"contains synthetic, not pascal-5i\. Set datasets"):
        JobData.open(job.model_copy(update={"trials": (trial,)}))


def test_base_images_never_show_a_novel_label(synthetic: Path) -> None:
    job = synthetic_job(synthetic, "pfenet")
    data = JobData.open(job)
    images = data.base_images(job.first)
    dataset = data.dataset(job.first)
    novel = novel_classes(dataset.info, 0, PROTOCOLS["fssplat"])
    assert len(images) > 15
    assert set(images.classes).isdisjoint(novel)
    shown = set()
    for index, (pixels, label) in enumerate(images):
        assert pixels.shape == (1, 3, SIZE, SIZE)
        assert pixels.dtype == torch.float32
        assert label.shape == (1, SIZE, SIZE)
        row = int(images.rows[index])
        assert images.image(index).shape[1:] == tuple(dataset.sizes[row])
        own = images.label(index)
        shown |= set(own.unique().tolist()) | set(label.unique().tolist())
        truth = torch.from_numpy(dataset.label(row).astype(np.int64))
        kept = torch.isin(truth, torch.tensor([*images.classes, 255]))
        assert torch.equal(own, torch.where(kept, truth, 0))
    assert shown <= {0, 255, *images.classes}


def test_base_images_ignore_novel_pixels_if_training_does(synthetic: Path) -> None:
    plain, hidden = (
        synthetic_job(synthetic, "mining", novel=policy) for policy in ("background", "ignore")
    )
    data = JobData.open(plain)
    dataset = data.dataset(plain.first)
    shown, ignored = (data.base_images(job.first) for job in (plain, hidden))
    assert shown.key != ignored.key
    novel = torch.tensor(sorted({*range(1, len(dataset.info.classes) + 1)} - {*shown.classes}))
    seen = 0
    for index, row in enumerate(shown.rows.tolist()):
        where = torch.isin(torch.from_numpy(dataset.label(row).astype(np.int64)), novel)
        seen += int(where.sum())
        assert (shown.label(index)[where] == 0).all()
        assert (ignored.label(index)[where] == 255).all()
        assert torch.equal(shown.label(index)[~where], ignored.label(index)[~where])
    assert seen


@pytest.mark.parametrize(("resize", "mode"), [("squash", "squash"), ("crop", "pad")])
def test_base_images_have_the_shape_that_training_gives_them(
    synthetic: Path, resize: str, mode: Mode
) -> None:
    """JC2A's prototypes, Eqs. 11 and 12: all images are resized to a square for its training."""
    job = synthetic_job(synthetic, "jc2a", training={"augment": {"resize": resize}})
    data = JobData.open(job)
    images, dataset = data.base_images(job.first), data.dataset(job.first)
    row = int(next(row for row in images.rows if np.ptp(dataset.sizes[row])))  # no square
    pixels, label = next(pair for at, pair in zip(images.rows, images, strict=True) if at == row)
    own = images.label(int(np.flatnonzero(images.rows == row)[0])).numpy().astype(np.uint8)
    fitted, expected, _ = fit(dataset.image(row), own, SIZE, mode)
    assert torch.equal(pixels[0], normalise(torch.from_numpy(fitted.copy()).permute(2, 0, 1)))
    assert torch.equal(label[0], torch.from_numpy(expected.astype(np.int64)))


def test_prototypes_of_padded_images_are_not_taken_for_those_of_stretched_ones(
    synthetic: Path,
) -> None:
    jobs = [
        synthetic_job(synthetic, "jc2a", training={"augment": {"resize": resize}})
        for resize in ("squash", "pad")
    ]
    data = JobData.open(jobs[0])
    stretched, padded = (data.base_images(job.first) for job in jobs)
    assert stretched.key != padded.key
    assert JC2A.recipe("pascal-5i", "resnet50")["augment"]["resize"] == "squash"
    assert JC2A.RESULT_VERSION == 3  # results with padded prototypes are not reused


def test_remaining_images_show_no_base_class(synthetic: Path) -> None:
    job = synthetic_job(synthetic, "pfenet")
    data = JobData.open(job)
    images: BaseImages = data.base_images(job.first)
    rest = images.remaining()
    assert rest.key != images.key
    dataset = data.dataset(job.first)
    for row in rest.rows.tolist():
        assert dataset.splits[row] == "train"
        assert not set(dataset.classes_of(row).tolist()) & set(images.classes)


WORKER = """
import sys, time
from pathlib import Path
import torch
from fssplat.engine.events import StepDone
from fssplat.engine.run import JobData, run_job
from tests.engine.test_run import killed_job, settings

torch.set_num_threads(1)

def slow(event):
    if isinstance(event, StepDone):
        print(event.step, flush=True)
        time.sleep(0.05)

job = killed_job(Path(sys.argv[1]), sys.argv[3])
run_job(job, JobData.open(job), Path(sys.argv[2]), slow, settings=settings(Path(sys.argv[2]), 2))
"""


def killed_job(synthetic: Path, method: str) -> Job:
    """A job with enough steps to be killed between its checkpoints.

    Random backbones give features so large that some methods diverge at the rate of their recipe.
    """
    return synthetic_job(synthetic, method, training={"steps": 10, "lr": 1e-4})


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"prior"}))
def test_a_killed_worker_ends_with_the_same_bits(
    synthetic: Path, tmp_path: Path, method: str
) -> None:
    """Every method, with two loader processes, killed twice by SIGKILL within an epoch."""
    job = killed_job(synthetic, method)
    whole = run_job(job, JobData.open(job), tmp_path / "a", settings=settings(tmp_path / "a"))
    command = [sys.executable, "-c", WORKER, str(synthetic), str(tmp_path / "b"), method]
    for kill_at in (5, 8):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= kill_at:
                    process.send_signal(signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL
    again = run_job(job, JobData.open(job), tmp_path / "b", settings=settings(tmp_path / "b"))
    ours, theirs = (
        checkpoint.load(tmp_path / name / "weights.safetensors").group("weights") for name in "ab"
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    (one,), (other,) = whole.values(), again.values()
    assert one["miou"] == other["miou"]
