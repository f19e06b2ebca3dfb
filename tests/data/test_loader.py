import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from fssplat.common.errors import InputError
from fssplat.data.batch import EpisodeBatch
from fssplat.data.index import Dataset
from fssplat.data.loader import TrainingBatches, training_batches, training_loader
from fssplat.data.transforms import normalise
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import (
    AugmentSpec,
    BackboneSpec,
    DatasetSpec,
    EvaluationSpec,
    MethodSpec,
    TrainingSpec,
)
from fssplat.experiment.trial import Trial
from tests.fakes.official_layouts import built_voc_of_pairs, small_area_protocol

CHANGES = AugmentSpec(scale=(0.9, 1.1), rotate=10, blur=True, flip=True, keep_object=0.85)


def training(**values: object) -> TrainingSpec:
    return TrainingSpec.model_validate(
        {"steps": 20, "batch": 3, "size": 24, "augment": CHANGES, **values}
    )


def trial(dataset: Dataset, protocol: Protocol, spec: TrainingSpec, way: int = 1) -> Trial:
    data = DatasetSpec(name=dataset.info.name, root=dataset.root)
    return Trial(
        dataset=data,
        train_on=data,
        fold=0,
        shot=1,
        way=way,
        method=MethodSpec(name="prior"),
        backbone=BackboneSpec(name="resnet50"),
        training=spec,
        protocol=protocol,
        evaluation=EvaluationSpec(),
        method_version=1,
    )


def same(one: EpisodeBatch, two: EpisodeBatch) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(one))


def test_any_number_of_workers_gives_the_same_batches(scenes: Dataset) -> None:
    cell = trial(scenes, small_area_protocol(), training())
    alone = list(training_loader(scenes, cell, 0, 7))
    assert len(alone) == 7
    for workers in (1, 2):
        shared_out = list(training_loader(scenes, cell, 0, 7, workers))
        assert all(same(*pair) for pair in zip(alone, shared_out, strict=True))


def test_a_stream_goes_on_from_any_step(scenes: Dataset) -> None:
    """Step 14 of 3 episodes each lies in the second epoch of 40."""
    cell = trial(scenes, small_area_protocol(), training())
    whole = list(training_loader(scenes, cell, 0, 16))
    for first in (5, 14):
        rest = list(training_loader(scenes, cell, first, 16, workers=first % 2))
        assert all(same(*pair) for pair in zip(whole[first:], rest, strict=True))


def test_loading_leaves_the_global_random_state_alone(scenes: Dataset) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    list(training_loader(scenes, trial(scenes, small_area_protocol(), training()), 0, 2, 1))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_reaches_the_caller_in_one_line(
    scenes: Dataset, tmp_path: Path, workers: int
) -> None:
    copy = Dataset.open(shutil.copytree(scenes.root, tmp_path / "copy"))
    (tmp_path / "copy/train-000000.tar").unlink()
    batches = training_loader(copy, trial(copy, small_area_protocol(), training()), 0, 2, workers)
    message = r"^\S*train-000000\.tar: this shard was removed .*the command\.$"
    with pytest.raises(InputError, match=message):
        next(batches)


def test_seeds_change_both_episodes_and_pixels(scenes: Dataset) -> None:
    first = TrainingBatches(scenes, 0, small_area_protocol(), training(seed=0))[0]
    again = TrainingBatches(scenes, 0, small_area_protocol(), training(seed=0))[0]
    other = TrainingBatches(scenes, 0, small_area_protocol(), training(seed=1))[0]
    assert same(first, again)
    assert not torch.equal(first.query, other.query)


def test_a_batch_travels_as_bytes_and_arrives_as_floats(scenes: Dataset) -> None:
    sent = TrainingBatches(scenes, 0, small_area_protocol(), training(shot=2), way=2)[0]
    assert sent.query.dtype == sent.masks.dtype == torch.uint8
    got = sent.to("cpu")
    assert got.query.shape == (3, 3, 24, 24)
    assert got.supports.shape == (3, 2, 2, 3, 24, 24)
    assert got.masks.shape == (3, 2, 2, 24, 24)
    assert got.target.shape == (3, 24, 24)
    assert got.query.dtype == got.supports.dtype == torch.float32
    assert got.target.dtype == got.masks.dtype == torch.int64
    assert torch.equal(got.supports, normalise(sent.supports))
    assert same(got, got.to("cpu"))  # a batch of floats stays as it is


def still(**values: object) -> TrainingSpec:
    """Nothing random, at the pictures' own width: 24 x 32 in a square of 32."""
    return training(size=32, augment=AugmentSpec(resize="pad"), **values)


def test_masks_and_targets_are_the_stored_labels(scenes: Dataset) -> None:
    batches = TrainingBatches(scenes, 0, small_area_protocol(), still(shot=2), way=2)
    for step in range(4):
        batch = batches[step]
        for place in range(3):
            episode = batches.episodes(*batches.episodes.at(step * 3 + place))
            stored = scenes.label(episode.query)
            wanted = np.zeros_like(stored)
            for way, class_id in enumerate(episode.classes, start=1):
                wanted[stored == class_id] = way
            wanted[stored == 255] = 255
            assert (batch.target[place, :24].numpy() == wanted).all()
            assert (batch.target[place, 24:] == 255).all()
            query = batch.query[place, :, :24].permute(1, 2, 0).numpy()
            assert (query == scenes.image(episode.query)).all()
            for n, class_id in enumerate(episode.classes):
                for k, row in enumerate(episode.supports[2 * n : 2 * n + 2]):
                    mask = batch.masks[place, n, k, :24].numpy()
                    assert ((mask == 1) == (scenes.label(row) == class_id)).all()


@pytest.mark.parametrize(("novel", "value"), [("background", 0), ("ignore", 255)])
def test_novel_pixels_are_background_or_ignored(tmp_path: Path, novel: str, value: int) -> None:
    """Every image shows bus (base) on the left and aeroplane (novel) on the right."""
    data = built_voc_of_pairs(tmp_path, {"train": [(6, 1)] * 3, "val": [(1, 0)] * 3})
    protocol = small_area_protocol(novel=novel, short_classes="drop")
    batch = TrainingBatches(data, 0, protocol, still())[0]
    hidden = data.label(0) == 1  # the same place in every image
    for labels in (batch.target, batch.masks[:, 0, 0]):
        assert (labels[:, :24][:, hidden] == value).all()
        assert (labels[:, 2:12, 2:12] == 1).all()


def test_a_trial_is_trained_on_the_data_set_that_it_names(scenes: Dataset) -> None:
    cell = trial(scenes, small_area_protocol(), training())
    batches = training_batches(scenes, cell)
    assert same(batches[2], next(training_loader(scenes, cell, 2, 3)))
    elsewhere = cell.model_copy(update={"train_on": DatasetSpec(name="synthetic")})
    with pytest.raises(AssertionError, match="train_on"):
        training_batches(scenes, elsewhere)


def test_real_images_of_any_shape_become_batches(voc: Dataset) -> None:
    protocol = small_area_protocol(min_area=2048, min_area_query=2048, short_classes="drop")
    batches = TrainingBatches(voc, 0, protocol, training(size=321, batch=4))
    for step in range(3):
        batch = batches[step].to("cpu")
        assert torch.isfinite(batch.query).all()
        assert set(batch.masks.unique().tolist()) <= {0, 1, 255}
        assert all((mask == 1).any() for mask in batch.masks.flatten(0, 2))
        assert all((target == 1).any() for target in batch.target)
