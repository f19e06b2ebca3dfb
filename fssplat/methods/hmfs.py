"""HMFS: HSNet with support features masked in two ways, in the image and in the features.

Source   Moon et al., "HMFS: Hybrid Masking for Few-Shot Segmentation", arXiv 2203.12826; "Eq. 1"
         and "Algorithm 1" below are those of the paper. The rest is HSNet: see hsnet.py.
Shapes   i images, c channels of a block, m blocks of a level, h x w cells of a level's grid.
Masks    1 object, 0 background, 255 ignored: background, in supports and in the loss alike.
Chosen   The paper augments PASCAL only and cites two works without listing the changes; here they
         are a flip and a blur. The paper gives no training length; here it is that of HSNet.
Differs  (public code, preset `public-code`) Algorithm 1 replaces activations that are exactly
         zero. The code replaces all that are not positive, also inside the object; section 3.3 can
         be read so ("unactivated", of features before their ReLU). Eq. 2 masks the image, so the
         rest is black; the code masks the normalised image, so the rest is ImageNet's mean colour.
         The code augments nothing and refers to HSNet's README for training, which uses batches
         of 40 on COCO; the paper uses 20 everywhere. The paper reports 40 % more time for hybrid
         masking; the forward pass alone takes 9 to 27 % more.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fssplat.methods.base import Encoded, MethodOptions, View
from fssplat.methods.hsnet import EPS, LEVELS, HSNet
from fssplat.methods.layers.hypercorrelation import spread
from fssplat.methods.layers.matching import grid_mask
from fssplat.methods.layers.photometric import normalised

SHOWN = {3: 4, 4: None}  # stage -> block of Fig. 6: layer 34 of a ResNet, and its last one


class HMFS(HSNet):
    """Input masking, feature masking, or both (hybrid masking)."""

    class Options(MethodOptions):
        """How support features are masked; Table 5 compares the three ways."""

        masking: Literal["im", "fm", "hm"] = "hm"  # of the image, the features, or both
        replaced: Literal["zero", "not-positive"] = "zero"  # activations that hm takes from im
        outside: Literal["black", "mean-colour"] = "black"  # of the object in a masked image

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "public-code": {
            "options": {"replaced": "not-positive", "outside": "mean-colour"},
            "training": {"augment": {"flip": False, "blur": False}},
            "training_on": {"coco-20i": {"batch": 40}},  # as in HSNet's README
        }
    }

    options: Options

    @classmethod
    def recipe(cls, dataset: str, backbone: str) -> Mapping[str, Any]:
        """The recipe of HSNet in batches of 20, with augmentation on PASCAL (section 4.1.2)."""
        recipe = dict(super().recipe(dataset, backbone))
        if dataset == "coco-20i":
            recipe["batch"] = 20
        if dataset == "pascal-5i":
            recipe["augment"] = {**recipe["augment"], "flip": True, "blur": True}
        return recipe

    def encode_support(self, encoded: Encoded, images: Tensor, masks: Tensor) -> Encoded:
        """`level<n>` [i, sum of c, h, w]: masked features of each block at unit norm."""
        if self.options.masking == "fm":
            return super().encode_support(encoded, images, masks)
        of_input = self.encode(self.masked_images(images, masks))
        if self.options.masking == "im":
            return {f"level{level}": of_input[f"level{level}"] for level in LEVELS}
        return {f"level{level}": self._hybrid(encoded, of_input, masks, level) for level in LEVELS}

    def views(self, query: Tensor, supports: Tensor, masks: Tensor) -> dict[str, View]:
        """The correlations of HSNet, and the first channel of support features that are masked in
        each of the three ways (Fig. 6)."""
        images, mask = supports[:, 0, 0], masks[:, 0, 0]
        whole, of_input = self.encode(images), self.encode(self.masked_images(images, mask))
        found = super().views(query, supports, masks)
        for level, block in SHOWN.items():
            widths = list(self.blocks[level])
            block = min(block or len(widths), len(widths))
            maps = [self._activations(one, level)[:, sum(widths[: block - 1])]
                    for one in (whole, of_input)]  # fmt: skip
            inside = maps[0] * grid_mask(mask, (maps[0].shape[-2], maps[0].shape[-1]))
            mixed = hybrid(inside, maps[1], self.options.replaced == "zero")
            ways = {"feature masking": inside, "input masking": maps[1], "hybrid masking": mixed}
            for way, values in ways.items():
                found[f"stage {level}, block {block}: {way}"] = View(values, "support", "free")
        return found

    def masked_images(self, images: Tensor, masks: Tensor) -> Tensor:
        """Eq. 2: [i, 3, H, W], [i, H, W] -> the object on a background of one colour."""
        inside = (masks == 1).unsqueeze(1)
        black = normalised(images.new_zeros(3, 1, 1))
        outside = black if self.options.outside == "black" else torch.zeros_like(black)
        return torch.where(inside, images, outside)

    def _hybrid(self, encoded: Encoded, of_input: Encoded, masks: Tensor, level: int) -> Tensor:
        """Algorithm 1 on each block of one level; the result is divided by its norm."""
        whole = self._activations(encoded, level)
        mask = grid_mask(masks, (whole.shape[-2], whole.shape[-1])).unsqueeze(1)
        only_zero = self.options.replaced == "zero"
        mixed = hybrid(whole * mask, self._activations(of_input, level), only_zero)
        blocks = torch.split(mixed, list(self.blocks[level]), dim=1)
        return torch.cat([maps / (maps.norm(dim=1, keepdim=True) + EPS) for maps in blocks], dim=1)

    def _activations(self, encoded: Encoded, level: int) -> Tensor:
        """Features before the division by their norms, [i, sum of c, h, w]."""
        norms = encoded[f"norm{level}"] + EPS
        return encoded[f"level{level}"] * spread(norms, self.blocks[level])


def hybrid(of_features: Tensor, of_input: Tensor, only_zero: bool) -> Tensor:
    """Algorithm 1: replace feature-masked activations that are zero by input-masked ones.

    If `only_zero` is false, negative activations are replaced as well.
    """
    replaced = of_features == 0 if only_zero else of_features <= 0
    return torch.where(replaced, of_input, of_features)
