"""The maps that methods show are those that their papers print."""

import torch
from torch.nn import functional as F

from fssplat.backbones import BackboneLayout
from fssplat.methods.base import FewShotSegmenter, View
from fssplat.methods.hmfs import HMFS
from fssplat.methods.jc2a import JC2A
from fssplat.methods.mining import MiningFSS
from fssplat.methods.pfenet import PFENet
from fssplat.methods.sdaanet import SDAANet
from tests.fakes.method_inputs import (
    BaseImages,
    FourStageBackbone,
    MemoryArtefacts,
    random_episodes,
)

RATIOS = (1.0, 0.5)
LAYOUT = BackboneLayout(blocks=True)


class BlockBackbone(FourStageBackbone):
    """Each stage has one block, its output."""

    block_channels = tuple((width,) for width in FourStageBackbone.channels)

    def features(self, images, upto):  # type: ignore[no-untyped-def]
        found = super().features(images, upto)
        return type(found)(found.stages, tuple((maps,) for maps in found.stages))


def prepared(built: FewShotSegmenter) -> FewShotSegmenter:
    built.prepare(BaseImages(), MemoryArtefacts())
    return built.eval()


def views_of(built: FewShotSegmenter) -> dict[str, View]:
    batch = random_episodes(b=1)
    with torch.no_grad():
        return built.views(batch.query, batch.supports, batch.masks)


def decoder_input(built: FewShotSegmenter) -> torch.Tensor:
    """What the decoder gets on its largest level, [b, channels, h, w], in the same episode."""
    seen: list[torch.Tensor] = []
    assert isinstance(built.decoder, torch.nn.Module)
    hook = built.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
    batch = random_episodes(b=1)
    with torch.no_grad():
        built(batch.query, batch.supports, batch.masks)
    hook.remove()
    return seen[0]


def test_the_maps_of_pfenet_are_the_channels_after_feature_and_prototype() -> None:
    torch.manual_seed(0)
    options = PFENet.Options(bins=RATIOS, ckmm=True)
    built = prepared(PFENet(FourStageBackbone(BackboneLayout()), options))
    shown, given = views_of(built), decoder_input(built)
    assert list(shown) == ["prior", "class-agnostic map"]
    assert torch.equal(shown["prior"].values, given[:, 512])
    assert torch.equal(shown["class-agnostic map"].values, given[:, 513])


def test_the_map_of_jc2a_is_there_only_with_ckmm() -> None:
    torch.manual_seed(0)
    small = {"bins": (6,), "top": (2,), "block_sides": (2,)}
    for ckmm in (True, False):
        layout = BackboneLayout(stages=3)
        built = prepared(JC2A(FourStageBackbone(layout), JC2A.Options(ckmm=ckmm, **small)))
        shown = views_of(built)
        assert list(shown) == (["class-agnostic map"] if ckmm else [])
        if ckmm:
            enlarged = F.interpolate(
                shown["class-agnostic map"].values[None], (6, 6), mode="bilinear",
                align_corners=True,
            )  # fmt: skip
            assert torch.allclose(enlarged[0], decoder_input(built)[:, -1], atol=1e-5)


def test_attention_and_prior_of_sdaanet_are_the_last_channels_of_the_decoder() -> None:
    torch.manual_seed(0)
    built = prepared(SDAANet(FourStageBackbone(BackboneLayout()), SDAANet.Options(bins=RATIOS)))
    shown, given = views_of(built), decoder_input(built)
    assert torch.equal(shown["prior"].values, given[:, -2])
    assert torch.equal(shown["affinity attention"].values, given[:, -1])
    assert shown["affinity attention"].scale == "free"


def test_similarity_of_sdaanet_is_the_cosine_of_eq_13() -> None:
    torch.manual_seed(0)
    built = prepared(SDAANet(FourStageBackbone(BackboneLayout()), SDAANet.Options(bins=RATIOS)))
    assert isinstance(built, SDAANet)
    view = views_of(built)["similarity to the prototype"]
    assert view.of == "support"
    batch = random_episodes(b=1)
    with torch.no_grad():
        _, supports = built.encode_episodes(batch.query, batch.supports, batch.masks)
        found = built.prototypes(supports, batch.masks)
    assert found is not None
    prototype, feature = found[1][0, 0, 0], supports["feature"][0, 0, 0]
    for y, x in ((0, 0), (2, 3), (4, 1)):
        cell = feature[:, y, x]
        expected = cell @ prototype / (cell.norm() * prototype.norm())
        assert abs(float(view.values[0, y, x]) - float(expected)) < 1e-5


def test_hmfs_shows_the_first_channel_of_features_masked_in_three_ways() -> None:
    torch.manual_seed(0)
    built = prepared(HMFS(BlockBackbone(LAYOUT), HMFS.Options()))
    assert isinstance(built, HMFS)
    batch = random_episodes(b=1)
    image, mask = batch.supports[:, 0, 0], batch.masks[:, 0, 0]
    shown = views_of(built)
    with torch.no_grad():
        whole = built.backbone(image).blocks[2][0][:, 0]
        masked = built.backbone(built.masked_images(image, mask)).blocks[2][0][:, 0]
    small = F.interpolate(
        (mask == 1).float()[None], whole.shape[-2:], mode="bilinear", align_corners=True
    )[0]
    by_feature = shown["stage 3, block 1: feature masking"].values
    by_input = shown["stage 3, block 1: input masking"].values
    both = shown["stage 3, block 1: hybrid masking"].values
    assert torch.allclose(by_feature, whole * small, atol=1e-5)
    assert torch.allclose(by_input, masked, atol=1e-5)
    assert torch.equal(both, torch.where(by_feature == 0, by_input, by_feature))


def test_mining_shows_its_pseudo_masks_with_the_labels_of_base_classes() -> None:
    torch.manual_seed(0)
    source = BaseImages()
    layout = MiningFSS.backbone_layout("", MiningFSS.Options())
    built = MiningFSS(FourStageBackbone(layout), MiningFSS.Options(clusters=2)).eval()
    assert built.labelled_images(2) == []  # nothing is prepared
    built.prepare(source, MemoryArtefacts())
    first, second = built.labelled_images(2)
    assert torch.equal(first.image, source.image(0))
    assert torch.equal(second.image, source.image(2))
    assert built.prepared is not None
    assert torch.equal(second.labels, built.prepared[1].mask(2, (41, 41)))
    assert second.labels.max() <= 2
    assert second.truth is not None
    assert torch.equal(second.truth, source.label(2))
