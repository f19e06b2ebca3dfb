"""Where weights come from, and what is said when they are missing or of another network."""

import hashlib
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from fssplat.backbones import BackboneLayout, build_backbone, resnet, vgg, weight_content, weights
from fssplat.common.errors import InputError
from fssplat.experiment.schema import BackboneSpec


def public_model(name: str) -> nn.Module:
    """torchvision's network with random values, BatchNorm's means included; VGG's convolutions."""
    torch.manual_seed(0)
    if name.startswith("vgg"):
        convolutions = torchvision.models.vgg.make_layers(
            torchvision.models.vgg.cfgs["D"], batch_norm=name.endswith("bn")
        )
        model: nn.Module = nn.ModuleDict({"features": convolutions})
    else:
        model = getattr(torchvision.models, name)()
    for key, value in model.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(std=0.1)
    return model.eval()


def last_stage(model: nn.Module, images: Tensor) -> Tensor:
    if isinstance(model, nn.ModuleDict):
        return model["features"][:-1](images)  # without the fifth pool
    x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    return model.layer4(model.layer3(model.layer2(model.layer1(x))))


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "vgg16_bn"])
def test_torchvision_weights_give_torchvision_features(name: str, tmp_path: Path) -> None:
    model = public_model(name)
    torch.save(model.state_dict(), tmp_path / "x.pth")
    spec = BackboneSpec(name=name, weights=str(tmp_path / "x.pth"))
    backbone = build_backbone(spec, BackboneLayout(ceil_pools=False))
    images = torch.randn(1, 3, 70, 90)
    with torch.no_grad():
        ours, theirs = backbone(images).stages[-1], last_stage(model, images)
    assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


def test_the_three_public_spellings_of_the_deep_stem_are_one() -> None:
    with torch.device("meta"):
        ours = resnet.ResNet(BackboneLayout(stages=1), depth=50, deep_stem=True).state_dict()
    places = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
    spellings: dict[str, dict[str, Tensor]] = {"layer0": {}, "semseg": {}, "mining": {}}
    for name, value in ours.items():
        head, _, rest = name.partition(".")
        number, _, leaf = rest.partition(".")
        stem = head == "stem"
        mining = f"bn1.{leaf}" if number == "7" else f"conv1.{rest}"
        spellings["layer0"][f"layer0.{rest}" if stem else name] = value
        spellings["semseg"][f"{places[number]}.{leaf}" if stem else name] = value
        spellings["mining"][mining if stem else name] = value
    for state in spellings.values():
        assert resnet.renamed(state).keys() == ours.keys()
    assert resnet.renamed(dict(ours)).keys() == ours.keys()


def test_our_own_names_stay_for_vgg() -> None:
    with torch.device("meta"):
        ours = vgg.VGG16(BackboneLayout(), batch_norm=True).state_dict()
    assert vgg.renamed(dict(ours)).keys() == ours.keys()


def test_auto_takes_the_users_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSSPLAT_WEIGHTS", str(tmp_path))
    with torch.no_grad():
        wanted = build_backbone(
            BackboneSpec(name="resnet50_v2", weights="random"), BackboneLayout(stages=1)
        )
    save_file(dict(wanted.state_dict()), tmp_path / "resnet50_v2.safetensors")
    found = build_backbone(BackboneSpec(name="resnet50_v2"), BackboneLayout(stages=1))
    for name, value in found.state_dict().items():
        assert torch.equal(value, wanted.state_dict()[name])


def test_weights_are_known_by_their_content_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPLAT_WEIGHTS", str(tmp_path))
    assert weight_content(BackboneSpec(name="resnet50", weights="random")) == ""
    public = weight_content(BackboneSpec(name="resnet50"))
    assert public == "0676ba61"  # as its file's name has it
    given = tmp_path / "given.pth"
    given.write_bytes(b"weights")
    one = weight_content(BackboneSpec(name="resnet50", weights=str(given)))
    (tmp_path / "resnet50.pth").write_bytes(b"weights")
    assert weight_content(BackboneSpec(name="resnet50")) == one
    assert one == hashlib.sha256(b"weights").hexdigest()[:8]
    given.write_bytes(b"others")
    assert weight_content(BackboneSpec(name="resnet50", weights=str(given))) != one


@pytest.mark.parametrize("name", ["resnet50", "resnet50_v2"])
def test_missing_weights_say_where_to_put_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> dict[str, Tensor]:
        raise OSError("no network")

    monkeypatch.setenv("FSSPLAT_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with pytest.raises(InputError, match=rf"{name}.*{tmp_path}/{name}\.pth.*random"):
        build_backbone(BackboneSpec(name=name), BackboneLayout())


def test_missing_timm_weights_say_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    def refuse(*args: object, **kwargs: object) -> object:
        raise OSError("no network")

    monkeypatch.setenv("FSSPLAT_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(InputError, match=r"timm:resnet18.*timm_resnet18\.pth"):
        build_backbone(BackboneSpec(name="timm:resnet18"), BackboneLayout())


def test_a_local_timm_file_is_read_under_timms_names(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model("resnet18")
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    spec = BackboneSpec(name="timm:resnet18", weights=str(tmp_path / "mine.pth"))
    backbone = build_backbone(spec, BackboneLayout())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        theirs = model.eval().forward_features(images)
        ours = backbone(images).stages[-1]
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet50", "timm:resnet18", "efficientnet_lite0"])
def test_weights_of_another_network_are_refused(name: str, tmp_path: Path) -> None:
    torch.save(OrderedDict({"conv1.weight": torch.zeros(3)}), tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth: not weights of"):
        build_backbone(BackboneSpec(name=name, weights=str(tmp_path / "x.pth")), BackboneLayout())


@pytest.mark.parametrize("content", [b"root:x:0:0:root:/root:/bin/bash\n", b"PK\x03\x04", b""])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.pth: not a readable weight file"):
        weights.read_state(tmp_path / "x.pth")


def test_a_wrong_shape_is_named() -> None:
    state = dict(public_model("vgg16").state_dict())
    state["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    with torch.device("meta"):
        network = vgg.VGG16(BackboneLayout(), batch_norm=False)
    with pytest.raises(InputError, match=r"stem\.0\.weight is \[64, 1, 3, 3\]"):
        weights.fill(network, vgg.renamed(state), "x.pth")
