"""JC2A's class-agnostic map of all objects (CKMM), computed from base-class prototypes.

Source   Huang et al., ACCV 2022; "Eq. 11" below is equation 11 there. Its Table 5 also adds the
         map to PFENet and MM-Net.
Shapes   i images, c channels, h x w feature cells.
Differs  Eq. 13 is a dot product, which the text calls a probability; here it is scaled to 0..1 in
         each image, like the prior of PFENet. Classes are averaged before the product, which gives
         the same result.
"""

import zlib
from collections.abc import Callable

import torch
from torch import Tensor, einsum, nn

from fssplat.backbones import Backbone
from fssplat.common.errors import InputError
from fssplat.methods.base import Artefacts, BaseImages
from fssplat.methods.layers.matching import grid_mask, middle_features, scaled


class ObjectMap(nn.Module):
    """Eqs. 11 to 13. The prototype is computed once, before training, and saved with the weights.

    It is NaN until `prepare` has run or weights are loaded, and so is every map.
    """

    prototype: Tensor  # [c], mean over the classes of FP_base in Eq. 12

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("prototype", torch.full((channels,), torch.nan))

    def forward(self, features: Tensor) -> Tensor:
        """[i, c, h, w] -> [i, h, w], Eq. 13, between 0 and 1 in each image."""
        found = einsum("c,ichw->ihw", self.prototype, features)
        return scaled(found.flatten(1)).reshape(found.shape)

    def prepare(self, backbone: Backbone, source: BaseImages, artefacts: Artefacts) -> None:
        """Read FP_base from the cache, or compute it from the backbone's stages 3 and 2."""
        device = self.prototype.device

        def features(images: Tensor) -> Tensor:
            return middle_features(backbone(images, upto=3))

        def compute() -> dict[str, Tensor]:
            training = backbone.training
            backbone.eval()  # else features depend on the batch, and statistics change
            try:
                return {"prototypes": class_prototypes(features, source, device)}
            finally:
                backbone.train(training)

        key = f"base-prototypes-{source.key}-{weights_digest(backbone)}"
        self.prototype.copy_(artefacts.get(key, compute)["prototypes"].mean(dim=0))


@torch.no_grad()
def class_prototypes(
    features: Callable[[Tensor], Tensor], source: BaseImages, device: torch.device
) -> Tensor:
    """Eqs. 11 and 12: mean feature of each object, then of each class: [classes, c].

    An image counts for a class if the class covers any of its feature cells. A class without images
    is left out.
    """
    classes = torch.tensor(source.classes, device=device)[:, None, None]
    totals = torch.zeros((), dtype=torch.float64, device=device)
    counts = torch.zeros(len(classes), dtype=torch.float64, device=device)
    for images, labels in source:
        maps = features(images.to(device)).double()
        of_class = (labels.to(device)[:, None] == classes).long()  # [i, classes, H, W]
        masks = grid_mask(of_class.flatten(0, 1), (maps.shape[-2], maps.shape[-1]))
        masks = masks.reshape(*of_class.shape[:2], *maps.shape[-2:]).double()
        areas = masks.sum(dim=(2, 3))
        means = einsum("inhw,ichw->inc", masks, maps) / areas.clamp(min=1e-12).unsqueeze(2)
        totals = totals + means.sum(dim=0)  # 0 if the class is absent
        counts += (areas > 0).sum(dim=0)
    seen = counts > 0
    if not seen.any():
        raise InputError(
            "no base image shows a base class at this training.size. Raise training.size, or build "
            "the data set from more images."
        )
    return (totals[seen] / counts[seen].unsqueeze(1)).float()


def weights_digest(module: nn.Module) -> str:
    """Hexadecimal checksum of the names and bytes of all parameters and buffers."""
    checksum = 0
    for name, value in sorted(module.state_dict().items()):
        flat = value.detach().cpu().contiguous().reshape(-1)
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(flat.view(torch.uint8).numpy(), checksum)
    return f"{checksum:08x}"
