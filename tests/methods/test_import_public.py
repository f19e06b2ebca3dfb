"""Loading public state dicts: names, shapes, errors, and no code run from a pickle."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fssplat.backbones import BackboneLayout, build_backbone
from fssplat.backbones.weights import read_state
from fssplat.cli.import_checkpoint import import_checkpoint, parsed
from fssplat.common.errors import InputError
from fssplat.engine import checkpoint
from fssplat.experiment.schema import BackboneSpec, MethodSpec
from fssplat.methods import METHODS, FewShotSegmenter, build_method
from fssplat.methods.import_public import HSNET, load_public, renamed


def hsnet() -> FewShotSegmenter:
    torch.manual_seed(0)
    return build_method(MethodSpec(name="hsnet"), BackboneSpec(name="vgg16", weights="random"))


def public_state(network: FewShotSegmenter) -> dict[str, Tensor]:
    """The network's values under the public names, as its authors would have saved them."""
    inverse = {ours: public.replace("\\.", ".") for public, ours in HSNET.items()}
    numbers = {"stem": 0, "layer1": 5, "layer2": 10, "layer3": 17, "layer4": 24}
    found = {"backbone.classifier.0.weight": torch.zeros(2, 2)}
    for name, value in network.state_dict().items():
        if name.startswith("backbone."):
            _, group, inside, leaf = name.split(".")
            found[f"backbone.features.{numbers[group] + int(inside)}.{leaf}"] = value
        else:
            ours = next(prefix for prefix in inverse if name.startswith(prefix))
            rest = name.removeprefix(ours).replace("query", "conv1").replace("support", "conv2")
            found[inverse[ours] + rest] = value
    return found


def test_every_public_entry_is_renamed_to_ours() -> None:
    network = hsnet()
    found, strange = renamed("hsnet", "vgg16", public_state(network))
    assert not strange
    assert found.keys() == network.state_dict().keys()


def test_a_public_mmnet_is_read_without_the_layers_that_it_never_uses() -> None:
    torch.manual_seed(0)
    options = dict(METHODS["mmnet"].PRESETS["public-code"]["options"])
    body = BackboneSpec(name="resnet50_v2", weights="random")
    network = build_method(MethodSpec(name="mmnet", options=options), body)
    memory = {
        "part_emb_2_level": torch.ones(1, 256, 50),
        "down_query_level_2.0.weight": torch.ones(256, 1536, 1, 1),
        "down_supp_level_2.0.weight": torch.full((256, 1536, 1, 1), 2.0),
    }
    never_read = {
        f"{name}.{leaf}": torch.ones(2) for name in ("alpha", "beta") for leaf in ("weight", "bias")
    }
    found, unknown = renamed("mmnet", "resnet50_v2", {**memory, **never_read})
    assert unknown == []
    assert len(found) == 3
    network.load_state_dict(found, strict=False)
    part = network.get_submodule("memories.0")
    assert part.embeddings.unique().tolist() == [1.0]
    assert part.get_submodule("read_query.0").weight.unique().tolist() == [1.0]
    assert part.get_submodule("read_support.0").weight.unique().tolist() == [2.0]


def test_the_command_writes_a_head_and_a_backbone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = hsnet()
    state = {f"module.{name}": value for name, value in public_state(network).items()}
    torch.save({"state_dict": state, "epoch": torch.tensor(3)}, tmp_path / "public.pth")
    import_checkpoint(tmp_path / "public.pth", "hsnet", "vgg16", tmp_path / "out", [])
    assert "backbones.vgg16.weights" in capsys.readouterr().out

    torch.manual_seed(1)
    body = BackboneSpec(name="vgg16", weights=str(tmp_path / "out" / "backbone.safetensors"))
    fresh = build_method(MethodSpec(name="hsnet"), body)
    loaded = checkpoint.load(tmp_path / "out" / "head.safetensors")
    assert (loaded.header.method, loaded.header.backbone) == ("hsnet", "vgg16")
    checkpoint.load_weights(fresh, loaded, "out")
    wanted = network.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in fresh.state_dict().items())


def test_an_unwritable_output_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    torch.save(public_state(hsnet()), tmp_path / "public.pth")
    with pytest.raises(InputError, match=r"--out .*public\.pth: cannot be written \(File exists\)"):
        import_checkpoint(tmp_path / "public.pth", "hsnet", "vgg16", tmp_path / "public.pth", [])


def test_an_option_that_is_not_yaml_is_reported() -> None:
    with pytest.raises(InputError, match="Close every bracket"):
        parsed(["bins=[60"])


def test_weights_of_another_method_are_refused() -> None:
    network = hsnet()
    with pytest.raises(InputError, match=r"not a checkpoint of hsnet.*missing.*unknown.*cls\.0"):
        load_public(network, "hsnet", "vgg16", {"cls.0.weight": torch.zeros(1)}, "x.pth")


def test_weights_of_another_backbone_are_refused() -> None:
    state = public_state(hsnet())
    state["backbone.features.0.weight"] = torch.zeros(64, 3, 7, 7)
    with pytest.raises(InputError, match=r"stem\.0\.weight is \[64, 3, 7, 7\].*\[64, 3, 3, 3\]"):
        load_public(hsnet(), "hsnet", "vgg16", state, "x.pth")


def test_a_method_without_public_weights_is_named() -> None:
    with pytest.raises(InputError, match="'panet' has no public weights"):
        renamed("panet", "vgg16", {})


class Runs:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must never run",))


def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": Runs()}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Runs()))
    for name in ("new.pth", "old.pth"):
        with pytest.raises(InputError, match=r"could run code|not a readable weight file"):
            read_state(tmp_path / name)
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], torch.zeros(2)])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="contains no named tensors"):
        read_state(tmp_path / "x.pth")


def test_a_missing_or_truncated_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such weight file"):
        read_state(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1000)}, tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    for name in ("cut.pth", "cut.safetensors"):
        with pytest.raises(InputError, match="not a readable weight file"):
            read_state(tmp_path / name)


def test_options_are_read_as_yaml() -> None:
    assert parsed(["bins=[1.0, 0.5]", "ckmm=true"]) == {"bins": [1.0, 0.5], "ckmm": True}
    with pytest.raises(InputError, match="write key=value"):
        parsed(["ckmm"])


def test_a_public_backbone_file_can_be_used_by_any_method(tmp_path: Path) -> None:
    state = {
        name.removeprefix("backbone."): value
        for name, value in public_state(hsnet()).items()
        if name.startswith("backbone.")
    }
    torch.save(state, tmp_path / "vgg16.pth")
    spec = BackboneSpec(name="vgg16", weights=str(tmp_path / "vgg16.pth"))
    assert build_backbone(spec, BackboneLayout()).channels == (128, 256, 512, 512)
