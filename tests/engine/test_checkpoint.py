"""Checkpoints: written whole or not at all, refused in another network, exact in their own."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fssplat.common.errors import InputError
from fssplat.engine import checkpoint
from fssplat.engine.checkpoint import Header
from tests.fakes.prototype_method import prototype_network

CPU = torch.device("cpu")
HEADER = Header("job", "tiny", "small", 3, 10, {"a": [1, 2]})


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path: Path) -> None:
    tensors = {"weights/a": torch.randn(2, 3), "random/torch": torch.arange(4, dtype=torch.uint8)}
    checkpoint.save(tmp_path / "x.safetensors", HEADER, tensors)
    found = checkpoint.load(tmp_path / "x.safetensors")
    assert found.header == HEADER
    assert torch.equal(found.group("weights")["a"], tensors["weights/a"])
    assert torch.equal(found.group("random")["torch"], tensors["random/torch"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, HEADER, {"weights/a": torch.zeros(1)})

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, HEADER, {"weights/a": torch.ones(1)})
    assert checkpoint.load(path).tensors["weights/a"].item() == 0
    assert [item.name for item in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_is_refused_unopened(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "step-1.safetensors"
    path.write_bytes(pickle.dumps({"weights": 1}, protocol=protocol))
    with pytest.raises(
        InputError, match=r"a pickle, which this program never opens.*import-checkpoint"
    ):
        checkpoint.load(path)


def test_a_torch_archive_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="a pickle"):
        checkpoint.load(path)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="not a checkpoint of this program"):
        checkpoint.load(path)


@pytest.mark.parametrize("change", [{"crc32": "x"}, {"more": 1}, {"step": None}], ids=str)
def test_a_header_with_other_fields_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "x.safetensors"
    note = {**vars(HEADER), "format": checkpoint.FORMAT, "crc32": 0, **change}
    note = {name: value for name, value in note.items() if value is not None}
    save_file({"a": torch.zeros(1)}, path, metadata={"fssplat": json.dumps(note)})
    for read in (checkpoint.load, checkpoint.identity):
        with pytest.raises(InputError, match=r"x\.safetensors: its header is not valid"):
            read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.safetensors: no such checkpoint"):
        checkpoint.load(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 40, 0.5, 0.99])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path: Path, keep: float) -> None:
    for step in (5, 6, 7):
        values = {"weights/a": torch.full((1000,), float(step))}
        newest = checkpoint.save_rolling(tmp_path, replace(HEADER, step=step), values)
    assert len(list(tmp_path.iterdir())) == 2
    data = newest.read_bytes()
    newest.write_bytes(data[: int(keep if keep >= 1 or keep == 0 else keep * len(data))])
    found = checkpoint.load_latest(tmp_path)
    assert found is not None
    assert found.header.step == 6


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, HEADER, {"weights/a": torch.zeros(1000)})
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="checksum"):
        checkpoint.load(path)


def test_without_any_whole_checkpoint_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "step-000000001.safetensors").write_bytes(b"")
    assert checkpoint.load_latest(tmp_path) is None
    assert checkpoint.load_latest(tmp_path / "absent") is None


@pytest.mark.parametrize("what", ["method", "backbone", "key"])
def test_a_checkpoint_of_another_training_is_refused(what: str) -> None:
    wanted = replace(HEADER, **{what: "wanted"})
    with pytest.raises(InputError, match=f"checkpoint is for {what} .*, expected wanted"):
        checkpoint.check_owner(HEADER, wanted, "here")


def test_a_frozen_backbone_is_left_out() -> None:
    names = checkpoint.weights(prototype_network())
    assert "average" in names
    assert "head.1.running_mean" in names
    assert not any(name.startswith("backbone.") for name in names)


def test_updated_batchnorm_buffers_are_kept_without_the_frozen_weights() -> None:
    names = checkpoint.weights(prototype_network(batch_statistics=True))
    assert "backbone.stages.0.1.running_mean" in names
    assert "backbone.stages.0.0.weight" not in names


def test_a_trained_backbone_is_kept_completely() -> None:
    names = checkpoint.weights(prototype_network(frozen=False))
    assert "backbone.stages.0.0.weight" in names
    assert "backbone.stages.0.1.running_var" in names


def test_weights_of_another_shape_are_refused() -> None:
    network = prototype_network()
    given = {f"weights/{name}": value for name, value in checkpoint.weights(network).items()}
    given["weights/head.0.weight"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"here: .*head\.0\.weight"):
        checkpoint.load_weights(network, checkpoint.Checkpoint(HEADER, given), "here")


def test_a_file_is_compared_with_a_network_by_its_header(tmp_path: Path) -> None:
    network = prototype_network()
    tensors = {f"weights/{name}": value for name, value in checkpoint.weights(network).items()}
    checkpoint.save(tmp_path / "right.safetensors", HEADER, tensors)
    checkpoint.check_fit(tmp_path / "right.safetensors", network)
    name = next(iter(tensors))
    checkpoint.save(tmp_path / "shape.safetensors", HEADER, {**tensors, name: torch.zeros(7, 7, 7)})
    checkpoint.save(tmp_path / "more.safetensors", HEADER, tensors | {"weights/x": torch.ones(1)})
    for other in ("shape", "more"):
        path = tmp_path / f"{other}.safetensors"
        with pytest.raises(InputError, match=rf"{other}\.safetensors: its weights do not fit"):
            checkpoint.check_fit(path, network)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"<html>", "a web page"), (b"version https://git-lfs.github", "LFS pointer"), (b"", "empty")],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=says):
        checkpoint.identity(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        checkpoint.identity(tmp_path)


def test_the_optimisers_slots_are_saved_and_restored() -> None:
    network = prototype_network()
    names = list(network.learnable())
    adam = torch.optim.Adam(network.learnable().values())
    for parameter in network.learnable().values():
        parameter.grad = torch.ones_like(parameter)
    adam.step()
    tensors = checkpoint.optimizer_tensors(adam, names)
    again = torch.optim.Adam(network.learnable().values())
    checkpoint.load_optimizer(again, names, tensors)
    assert str(again.state_dict()["state"]) == str(adam.state_dict()["state"])
