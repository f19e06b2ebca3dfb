"""Weights are checked by names and shapes before a job needs them."""

import pickle
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from fssplat.backbones import BackboneLayout, build_backbone
from fssplat.backbones.weight_checks import check_weights
from fssplat.common.errors import InputError
from fssplat.experiment.schema import BackboneSpec

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 102\n"


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of one stage of our resnet50, with random values."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    spec = BackboneSpec(name="resnet50", weights="random")
    torch.save(build_backbone(spec, BackboneLayout(stages=1)).state_dict(), path)
    return path


def check(path: Path | str, name: str = "resnet50") -> str:
    return check_weights(BackboneSpec(name=name, weights=str(path)), BackboneLayout(stages=1))


def refusal(path: Path, name: str = "resnet50") -> str:
    with pytest.raises(InputError) as caught:
        check(path, name)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_right_file_passes_in_every_format(resnet50: Path, tmp_path: Path) -> None:
    assert check(resnet50) == ""
    state = torch.load(resnet50)
    save_file(state, tmp_path / "a.safetensors")
    assert check(tmp_path / "a.safetensors") == ""
    torch.save({"state_dict": state}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert check(tmp_path / "old.pth") == ""


def test_a_check_reads_names_and_not_values(resnet50: Path, tmp_path: Path) -> None:
    state = torch.load(resnet50) | {"fc.weight": torch.zeros(50_000_000)}
    torch.save(state, tmp_path / "large.pth")
    check(resnet50)
    began = time.perf_counter()
    assert check(tmp_path / "large.pth") == ""
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html>\n<html><head>", "is a web page"),
        (b"\n  <html lang=en>", "is a web page"),
        (POINTER, "is a git-LFS pointer, not the file itself. Run `git lfs pull`"),
        (b"", "is empty"),
        (pickle.dumps({"model": Path("x")}), "could run code"),
        (b"PK\x03\x04 and no more", "not a readable weight file"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, content: bytes, says: str, suffix: str
) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    text = refusal(path)
    assert says in text or (suffix == ".safetensors" and "not a readable weight file" in text)


def test_a_folder_a_missing_file_and_a_truncated_one_are_named(
    resnet50: Path, tmp_path: Path
) -> None:
    assert "is a folder" in refusal(tmp_path)
    assert "no such weight file" in refusal(tmp_path / "none.pth")
    for name, save in (("a.pth", torch.save), ("a.safetensors", save_file)):
        save(torch.load(resnet50), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert "not a readable weight file" in refusal(tmp_path / name)


def test_a_file_of_another_network_is_refused(resnet50: Path) -> None:
    assert "not weights of this backbone" in refusal(resnet50, "vgg16")
    assert "not weights of this backbone" in refusal(resnet50, "resnet50_v2")
    assert "not weights of timm:resnet18" in refusal(resnet50, "timm:resnet18")
    assert "not weights of efficientnet_lite0" in refusal(resnet50, "efficientnet_lite0")


def test_a_timm_file_is_checked_under_timms_names(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "mine.pth")
    assert check(tmp_path / "mine.pth", "timm:resnet18") == ""


def test_a_download_is_named_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSSPLAT_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    line = check("auto")
    assert "were not checked" in line
    assert "downloads https://download.pytorch.org/models/resnet50-0676ba61.pth" in line
    assert f"{tmp_path}/resnet50.pth" in line
    assert "https://huggingface.co/timm/resnet18" in check("auto", "timm:resnet18")
    assert check("random", "resnet50_v2") == ""
    assert check("auto", "efficientnet_lite0") == ""  # of an installed package
    assert list(tmp_path.iterdir()) == []


def test_weights_that_nobody_publishes_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPLAT_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=rf"resnet50_v2: .*{tmp_path}/resnet50_v2\.pth"):
        check("auto", "resnet50_v2")
    (tmp_path / "resnet50_v2.pth").write_bytes(POINTER)
    with pytest.raises(InputError, match="git-LFS pointer"):
        check("auto", "resnet50_v2")


def test_a_file_that_was_downloaded_before_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPLAT_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"<html>")
    with pytest.raises(InputError, match="is a web page"):
        check("auto")
