"""What the variants of the papers' tables are here: changes of a method's entry."""

from collections.abc import Mapping
from typing import Any


def _mining(parts: str) -> dict[str, Any]:
    """MiningFSS's options for the parts that a row lists."""
    names = {"FG": "foreground", "BG": "background", "Mine": "mine", "EMA": "ema"}
    return {option: name in parts.split() for name, option in names.items()}


def _jc2a(parts: str) -> dict[str, Any]:
    """JC2A's options for the parts that a row lists."""
    return {option.lower(): option in parts.split("+") for option in ("P2P", "P2B", "CKMM")}


AUGMENTED = "* data augmentation in training"
HOST = {"training": {"size": 473}}
_PLAIN = {"sdpm": False, "saam": False}


# variant -> what is missing here
NOT_IMPLEMENTED = {"w/ Attn": "the attention of CANet that weighs the shots"}
# paper -> variant as the tables name it -> changes of the method's entry
VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "HMFS": {
        AUGMENTED: {},  # HMFS's recipe on PASCAL; HSNet's with the same changes is in `_variant`
        "HM (hybrid masking)": {"name": "hmfs"},
        "IM (input masking)": {"name": "hmfs", "options": {"masking": "im"}},
        "FM (feature masking)": {"name": "hmfs", "options": {"masking": "fm"}},
    },
    "MiningFSS": {
        "+ unlabeled": {"options": {"unlabelled": ["train", "remain"]}},
        "baseline (PANet-style matching)": {"options": _mining("")},
        "FG": {"options": _mining("FG")},
        "BG": {"options": _mining("BG")},
        "Mine": {"options": _mining("Mine EMA")},
        "FG+BG": {"options": _mining("FG BG")},
        "FG+BG+Mine (full)": {"options": _mining("FG BG Mine EMA")},
        "Mine only; unlabeled source: training set": {"options": _mining("Mine EMA")},
        "Mine only; unlabeled source: training set + remaining": {
            "options": {**_mining("Mine EMA"), "unlabelled": ["train", "remain"]}
        },
        "unlabeled: none (BG only)": {"options": _mining("BG")},
        "unlabeled: ImageNet (10 per class)": {"options": {"unlabelled": ["imagenet"]}},
        "unlabeled: trainset": {},
        "unlabeled: trainset + ImageNet": {"options": {"unlabelled": ["train", "imagenet"]}},
        "unlabeled: trainset + remaining": {"options": {"unlabelled": ["train", "remain"]}},
        "baseline": {"options": _mining("")},
        "baseline w/ EMA": {"options": _mining("EMA")},
        "FG+BG w/ EMA": {"options": _mining("FG BG EMA")},
        "full w/o EMA": {"options": _mining("FG BG Mine")},
        "full w/ EMA": {},
        **{f"K-Means K={k}": {"options": {"clusters": k}} for k in (1, 3, 5, 7, 9)},
    },
    "JC2A": {
        "baseline (no HPAM, no CKMM)": {"options": _jc2a("")},
        "P2P": {"options": _jc2a("P2P")},
        "P2B": {"options": _jc2a("P2B")},
        "P2P+P2B": {"options": _jc2a("P2P+P2B")},
        "CKMM": {"options": _jc2a("CKMM")},
        "P2P+P2B+CKMM (full)": {},
        "HPAM: full": {},
        "HPAM: normal attention (NA)": {"options": {"attention": "normal"}},
        "HPAM: normal linear attention (NLA)": {"options": {"attention": "normal-linear"}},
        "HPAM: cosine interaction": {"options": {"attention": "cosine"}},
        "HPAM: without position embedding": {"options": {"position": False}},
        **{f"HPAM: {how}": {"options": {"hybrid": how}} for how in ("add", "multiply", "concat")},
        **{
            f"MIA: {how}": {"options": {"aggregation": how}}
            for how in ("add", "multiply", "concat")
        },
        # Methods that Table 5 adds CKMM to, trained at the size of section 4.1
        "base": HOST,
        "+CKMM": {**HOST, "options": {"ckmm": True}},
    },
    "MM-Net": {
        **{f"{n} meta-class embeddings": {"options": {"embeddings": n}} for n in (20, 50, 100)},
        "FCM": {"options": {"nodes": "none"}},
        "FCM + Feat": {"options": {"nodes": "features"}},
        "FCM + MMM": {},
        "MMM(3) + APM": {"options": {"levels": "3"}},
        "MMM(2,3) + APM": {"options": {"levels": "2,3"}},
        "MMM(2+3) + Global": {"options": {"propagation": "global"}},
        "MMM(2+3) + APM": {},
        "reconstruction loss: none": {"options": {"reconstruct": "none"}},
        "reconstruction loss: query (inferred)": {"options": {"reconstruct": "query"}},
        "reconstruction loss: support+query (inferred)": {"options": {"reconstruct": "both"}},
        "reconstruction loss: support (inferred, full)": {},
        "w/o QMM": {"options": {"quality": False}},
        "w/ QMM": {},
        "w/o FCM": {"options": {"confidence": False}},
        "w/ FCM": {},
    },
    "SD-AANet": {
        "Baseline (PFENet)": {"options": _PLAIN},
        "Baseline (PFENet); dagger: scored at 473x473": {"options": _PLAIN},
        "dagger: scored at 473x473": {},
        "Baseline + SAAM": {"options": {"sdpm": False}},
        "Baseline + SDPM": {"options": {"saam": False}},
        "SDPM + SAAM (full)": {},
        "single-scale inference": {},
        "multi-scale inference (321+473)": {"options": {"scales": [321, 473]}},
        "SDPM integral teacher prototype": {"options": {"teacher": "integral"}},
        "SDPM separate teacher prototypes": {},
        "multi-class; Baseline (PFENet)": {"options": {**_PLAIN, "ways": 5}},
        "multi-class; full": {"options": {"ways": 5}},
    },
}
