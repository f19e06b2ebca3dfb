"""Load weights of the public implementations: their parameter names and ours.

A public file is read without running code (`fssplat.backbones.weights.read_state`) and renamed by
the tables below. The result must match the network exactly: no entry missing, none unknown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fssplat.backbones import resnet, vgg
from fssplat.backbones.weights import DROPPED
from fssplat.common.errors import InputError
from fssplat.methods.base import FewShotSegmenter


@dataclass(frozen=True)
class PublicNames:
    """Parameter names of one public implementation; patterns match the start of a name."""

    backbone: str  # entries of the backbone; the group `inner` is the name inside it
    head: Mapping[str, str] = field(default_factory=dict)  # public prefix -> our prefix
    unused: str = ""  # entries that the public network never reads


FLAT = r"(?P<inner>layer[0-4]\..*)"  # layer0 to layer4 beside the head
NESTED = r"backbone\.(?P<inner>.*)"

PYRAMID = {
    r"init_merge\.": "decoder.merge.",
    r"alpha_conv\.": "decoder.blend.",
    r"beta_conv\.": "decoder.refine.",
    r"inner_cls\.": "decoder.level_heads.",
    r"res1\.": "decoder.gather.",
    r"res2\.": "decoder.polish.",
    r"cls\.": "decoder.head.",
}
PFENET = {**PYRAMID, r"down_query\.": "reduce_query.", r"down_supp\.": "reduce_support."}
MMNET = {
    **PYRAMID,
    r"part_emb_2_level": "memories.0.embeddings",
    r"down_query_level_2\.": "memories.0.read_query.",
    r"down_supp_level_2\.": "memories.0.read_support.",
}
SDAANET = {
    **PFENET,
    r"se_supp\.": "weigh.",
    r"simple_mask\.0\.": "attention.widen.0.",
    r"simple_mask\.2\.stages\.": "attention.pyramid.stages.",
    r"simple_mask\.2\.bottleneck\.": "attention.pyramid.merge.",
    r"s_cls\.": "attention.of_support.",
    r"q_maskgeneration\.": "attention.of_query.",
}
# Six 4D blocks of three layers; inside a block only the names of the two convolutions differ.
HSNET = {
    rf"hpn_learner\.{public}\.": f"squeeze.{ours}."
    for public, ours in {
        "encoder_layer4": "encoders.0",
        "encoder_layer3": "encoders.1",
        "encoder_layer2": "encoders.2",
        "encoder_layer4to3": "mixers.0",
        "encoder_layer3to2": "mixers.1",
        "decoder1": "decoder",
        "decoder2": "classifier",
    }.items()
}
PIVOTS = {"conv1": "query", "conv2": "support"}

PUBLIC: dict[str, PublicNames] = {
    "hmfs": PublicNames(NESTED, HSNET),
    "hsnet": PublicNames(NESTED, HSNET),
    "mining": PublicNames(NESTED),
    "mmnet": PublicNames(FLAT, MMNET, unused=r"(alpha|beta)\.(weight|bias)$"),
    "pfenet": PublicNames(FLAT, PFENET),
    "sdaanet": PublicNames(FLAT, SDAANET),
}


def require_public(method: str) -> None:
    """Raises InputError if the public names of the method are not known."""
    if method not in PUBLIC:
        raise InputError(
            f"method {method!r} has no public weights that can be read. Known: {', '.join(PUBLIC)}."
        )


def load_public(
    network: FewShotSegmenter, method: str, backbone: str, state: Mapping[str, Tensor], where: str
) -> None:
    """Load a public state dict into a network, including its backbone and buffers.

    Raises InputError if an entry is missing, is unknown, or has another shape.
    """
    given, unknown = renamed(method, backbone, state)
    own = network.state_dict()
    missing = sorted(own.keys() - given.keys() - _own_buffers(network))
    unknown += sorted(given.keys() - own.keys())
    if missing or unknown:
        raise InputError(
            f"{where}: not a checkpoint of {method} with {backbone}"
            f"{_listed('missing', missing)}{_listed('unknown', unknown)}. "
            "Check --method, --backbone and the options it was trained with."
        )
    for name, value in given.items():
        if value.shape != own[name].shape:
            raise InputError(
                f"{where}: {name} is {list(value.shape)}, {method} with {backbone} has "
                f"{list(own[name].shape)}. Check --backbone and the options."
            )
    network.load_state_dict(given, strict=False)


def renamed(
    method: str, backbone: str, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the entries under our names, and the public names that no rule matches.

    Entries of ImageNet classifiers, and those that the public network never reads, are left out.
    """
    require_public(method)
    names = PUBLIC[method]
    inner: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    unknown = []
    for name, value in state.items():
        match = re.match(names.backbone, name)
        if match:
            inner[match["inner"]] = value
            continue
        if names.unused and re.match(names.unused, name):
            continue
        ours = _head_name(names, name)
        if ours:
            found[ours] = value
        else:
            unknown.append(name)
    rename = vgg.renamed if backbone.startswith("vgg") else resnet.renamed
    for name, value in rename(inner).items():
        if not name.startswith(DROPPED):
            found[f"backbone.{name}"] = value
    return found, unknown


def _head_name(names: PublicNames, name: str) -> str:
    for pattern, ours in names.head.items():
        match = re.match(pattern, name)
        if match:
            rest = [PIVOTS.get(part, part) for part in name[match.end() :].split(".")]
            return match.expand(ours) + ".".join(rest)
    return ""


def _own_buffers(network: FewShotSegmenter) -> set[str]:
    """Buffers that no public file contains: all but those of BatchNorm."""
    names = [name for name, _ in network.named_buffers()]
    return {name for name in names if not name.endswith(("_mean", "_var", "_tracked"))}


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"; {what}: {', '.join(names[:3])}{more}"
