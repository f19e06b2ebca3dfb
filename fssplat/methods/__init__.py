"""Every method, by the name that YAML, tables and the command line use. A new one is one line."""

import difflib

from fssplat.backbones import build_backbone
from fssplat.errors import InputError
from fssplat.methods.base import FewShotSegmenter
from fssplat.methods.hmfs import HMFS
from fssplat.methods.hsnet import HSNet
from fssplat.methods.jc2a import JC2A
from fssplat.methods.mining import MiningFSS
from fssplat.methods.mmnet import MMNet
from fssplat.methods.panet import PANet
from fssplat.methods.pfenet import PFENet
from fssplat.methods.prior import Prior
from fssplat.methods.sdaanet import SDAANet
from fssplat.spec import BackboneSpec, MethodSpec, validate

__all__ = ["METHODS", "FewShotSegmenter", "build_method"]

METHODS: dict[str, type[FewShotSegmenter]] = {
    "hmfs": HMFS,
    "hsnet": HSNet,
    "jc2a": JC2A,
    "mining": MiningFSS,
    "mmnet": MMNet,
    "panet": PANet,
    "pfenet": PFENet,
    "prior": Prior,
    "sdaanet": SDAANet,
}


def build_method(spec: MethodSpec, backbone: BackboneSpec) -> FewShotSegmenter:
    """The network with its backbone built as the method wants it; the head by the current seed.

    Raises InputError for an unknown name or option, and for missing backbone weights.
    """
    if spec.name not in METHODS:
        near = difflib.get_close_matches(spec.name, METHODS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"method {spec.name!r} is unknown. {hint}Known: {', '.join(METHODS)}.")
    method = METHODS[spec.name]
    options = validate(method.Options, spec.options, f"{spec.name}.options")
    layout = method.backbone_layout(backbone.name, options)
    network = method(build_backbone(backbone, layout), options)
    network.momentum.update(spec.momentum)
    return network
