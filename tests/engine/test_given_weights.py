"""Trials that share weights: given ones, and trials that differ only in options of scoring."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fssplat.common.errors import InputError
from fssplat.engine.events import Event, StepDone, TrainingDone
from fssplat.engine.run import JobData, run_job, score_checkpoint
from fssplat.engine.settings import RunSettings
from fssplat.experiment.schema import BackboneSpec
from fssplat.experiment.trial import Trial
from fssplat.planning.absolute_paths import absolute_job
from fssplat.planning.inputs import checkpoint_fingerprints, content_fingerprints
from tests.fakes.synthetic_jobs import synthetic_job

PARTS = ("miou", "fb_iou")


def settings(folder: Path) -> RunSettings:
    return RunSettings(device=torch.device("cpu"), artefacts=folder / "artefacts")


def scores(metrics: dict[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in PARTS}


def test_given_weights_are_scored_and_nothing_is_trained(synthetic: Path, tmp_path: Path) -> None:
    trained = synthetic_job(synthetic, "pfenet", training={"steps": 2})
    data = JobData.open(trained)
    (wanted,) = run_job(trained, data, tmp_path / "a", settings=settings(tmp_path)).values()
    weights = tmp_path / "a" / "weights.safetensors"
    given = synthetic_job(synthetic, "pfenet", training={"steps": 2, "checkpoint": str(weights)})
    assert given.first.training.steps == 0
    events: list[Event] = []
    folder = tmp_path / "b"
    found = run_job(given, data, folder, events.append, settings=settings(tmp_path))
    assert scores(found[given.trial_ids[0]]) == scores(wanted)
    assert not any(isinstance(event, StepDone) for event in events)
    assert any(isinstance(event, TrainingDone) for event in events)
    assert str(weights) in (folder / "trials" / given.trial_ids[0] / "notes.json").read_text()


def test_the_result_is_named_by_the_content_of_given_weights_and_not_by_their_path(
    synthetic: Path, tmp_path: Path
) -> None:
    def trial(path: str) -> Trial:
        return synthetic_job(synthetic, "pfenet", training={"checkpoint": path}).first

    one, copy = trial("a.safetensors"), trial("b.safetensors")
    same = {"a.safetensors": "123", "b.safetensors": "123"}
    assert one.trial_id(same) == copy.trial_id(same)
    assert one.trial_id(same) != one.trial_id({"a.safetensors": "124"})
    assert one.training_key(same) != one.training_key({"a.safetensors": "124"})


def test_a_worker_with_another_weight_file_than_planned_does_not_start(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPLAT_WEIGHTS", str(tmp_path))
    (tmp_path / "resnet50.pth").write_bytes(b"planned with")
    job = synthetic_job(synthetic, "pfenet")
    backbone = BackboneSpec(name="resnet50")
    job = job.model_copy(update={"trials": (job.first.model_copy(update={"backbone": backbone}),)})
    planned = content_fingerprints(job.trials)
    JobData.open(job, planned)
    (tmp_path / "resnet50.pth").write_bytes(b"found there")
    with pytest.raises(InputError, match="backbone resnet50: weight file"):
        JobData.open(job, planned)


def test_a_plan_refuses_weights_of_another_method_and_missing_weights(
    synthetic: Path, tmp_path: Path
) -> None:
    job = synthetic_job(synthetic, "panet", training={"steps": 1})
    run_job(job, JobData.open(job), tmp_path, settings=settings(tmp_path))
    weights = str(tmp_path / "weights.safetensors")
    same = synthetic_job(synthetic, "panet", training={"checkpoint": weights})
    assert list(checkpoint_fingerprints(same.trials)) == [weights]
    other = synthetic_job(synthetic, "pfenet", training={"checkpoint": weights})
    with pytest.raises(InputError, match="checkpoint is for method panet, expected pfenet"):
        checkpoint_fingerprints(other.trials)
    missing = synthetic_job(
        synthetic, "pfenet", training={"checkpoint": str(tmp_path / "none.safetensors")}
    )
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint_fingerprints(missing.trials)


def entry(scales: list[int]) -> dict[str, Any]:
    return {"name": "sdaanet", "options": {"scales": scales}}


def test_several_scales_are_scored_from_one_training(synthetic: Path, tmp_path: Path) -> None:
    alone = synthetic_job(synthetic, entry([33, 65]), training={"steps": 2}, episode_seeds=[0])
    job = synthetic_job(synthetic, entry([]), training={"steps": 2}, episode_seeds=[0])
    assert alone.key == job.key
    both = job.model_copy(
        update={
            "trials": (*job.trials, *alone.trials),
            "trial_ids": (*job.trial_ids, *alone.trial_ids),
        }
    )
    data = JobData.open(both)
    found = run_job(both, data, tmp_path / "both", settings=settings(tmp_path))
    several = run_job(alone, data, tmp_path / "alone", settings=settings(tmp_path))
    assert scores(found[alone.trial_ids[0]]) == scores(several[alone.trial_ids[0]])
    weights = tmp_path / "both" / "weights.safetensors"
    for trial_id, trial in zip(both.trial_ids, both.trials, strict=True):
        place = tmp_path / trial_id
        again = score_checkpoint(trial, weights, data, place, settings=settings(tmp_path))
        assert scores(again) == scores(found[trial_id])


def test_a_worker_with_another_checkpoint_than_planned_does_not_score_it(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path is relative in the file and absolute in the worker."""
    trained = synthetic_job(synthetic, "pfenet", training={"steps": 1})
    run_job(trained, JobData.open(trained), tmp_path / "a", settings=settings(tmp_path))
    monkeypatch.chdir(tmp_path)
    given = synthetic_job(synthetic, "pfenet", training={"checkpoint": "a/weights.safetensors"})
    planned, sent = content_fingerprints(given.trials), absolute_job(given)
    JobData.open(sent, planned)
    other = synthetic_job(synthetic, "pfenet", training={"steps": 2})
    run_job(other, JobData.open(other), tmp_path / "b", settings=settings(tmp_path))
    (tmp_path / "b" / "weights.safetensors").replace(tmp_path / "a" / "weights.safetensors")
    with pytest.raises(InputError, match=r"a/weights\.safetensors changed since planning"):
        JobData.open(sent, planned)
