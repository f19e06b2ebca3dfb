"""The five papers' printed results, and the experiment that runs a row again.

A row is named `<paper>:<table>:<row>`, e.g. `HMFS:2:3`: the third row of the paper's Table 2 in the
order of `published_results.csv`. Doubtful cells are marked in the row's notes.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.similar import known
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import ExperimentSpec

METHODS = {
    "JC2A": "jc2a",
    "MiningFSS": "mining",
    "HMFS": "hmfs",
    "HSNet": "hsnet",
    "MM-Net": "mmnet",
    "PANet": "panet",
    "PFENet": "pfenet",
    "SD-AANet": "sdaanet",
}
BACKBONES = {
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "ResNet50-v2": "resnet50_v2",
    "ResNet101-v2": "resnet101_v2",
    "VGG16": "vgg16",
}
PROTOCOLS = {
    "JC2A": "jc2a",
    "MiningFSS": "miningfss",
    "HMFS": "hsnet",
    "MM-Net": "mmnet",
    "SD-AANet": "sdaanet",
}
# Methods that train a network for each number of shots, also in tables of papers that do not.
TRAINED_APART = {"PFENet", "MM-Net", "SD-AANet"}
# Methods that compare several supports at one size, under a protocol that keeps every image's size:
# (paper, method) -> changes of the protocol for several shots, and what a reader must know of them.
ONE_SIZE = {
    ("MiningFSS", "PFENet"): (
        {"input": "pad", "size": 473},
        "PFENet compares supports at one size, so ours are padded to 473 pixels; the paper uses "
        "images at their original size",
    )
}
# Papers that call their deep-stem network plainly "ResNet".
DEEP_STEM = {("MiningFSS", "ResNet50"), ("MiningFSS", "ResNet101")}
# Methods whose code has BatchNorm in the network that the paper calls "VGG".
VGG_WITH_BATCH_NORM = {"MM-Net"}
METRICS = {"mIoU": "miou", "FB-IoU": "fb_iou"}
NOT_RUN = {  # printed numbers that are not a score of a trial -> why
    "params_M": "needs the network only: tests/methods counts parameters",
    "learnable_params_M": "needs the network only: tests/methods counts parameters",
    "mIoU_gain": "a difference of two rows: verify its base row and launch the table's file",
    "class_IoU": "part of a row of Table VII, whose trials hold every class",
    "FPS": "measured on the authors' machine",
    "FPS_episodes": "measured on the authors' machine",
    "gpu_mem_MB": "measured on the authors' machine",
    "speed_rel_to_NA_1shot": "a ratio of speeds: experiments/ablations/jc2a_table4.yaml gives it",
}


def _mining(parts: str) -> dict[str, Any]:
    """MiningFSS's options for the parts that a row lists."""
    names = {"FG": "foreground", "BG": "background", "Mine": "mine", "EMA": "ema"}
    return {option: name in parts.split() for name, option in names.items()}


def _jc2a(parts: str) -> dict[str, Any]:
    """JC2A's options for the parts that a row lists."""
    return {option.lower(): option in parts.split("+") for option in ("P2P", "P2B", "CKMM")}


AUGMENTED = "* data augmentation in training"
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
        "base": {},  # of the method that Table 5 adds CKMM to
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


@dataclass(frozen=True)
class PublishedRow:
    """One printed result: percent per fold and their mean; None if the paper prints none."""

    name: str
    paper: str
    table: str
    dataset: str
    method: str
    variant: str
    backbone: str
    shot: int | None
    metric: str
    folds: tuple[float | None, ...]
    mean: float | None
    notes: str

    @property
    def doubtful(self) -> bool:
        """Whether the table's text could not be read with certainty."""
        return "doubtful" in self.notes or "does not fit" in self.notes

    @property
    def quoted(self) -> bool:
        """Whether the paper took the number from another work, whose protocol it does not state."""
        return self.notes.startswith("quoted")


@cache
def rows() -> tuple[PublishedRow, ...]:
    """Every row, in the order of the data file."""
    text = resources.files("fssplat.report").joinpath("published_results.csv").read_text("utf-8")
    counts: dict[tuple[str, str], int] = {}
    found = []
    for line in csv.DictReader(text.splitlines()):
        table = (line["paper"], line["table"])
        counts[table] = counts.get(table, 0) + 1
        found.append(_row(line, counts[table]))
    return tuple(found)


def find(name: str) -> PublishedRow:
    """The row of that name; `HMFS:2:3` and `hmfs:table 2:3` are the same.

    Raises InputError that lists the known papers, tables or the number of rows.
    """
    parts = [part.strip().lower().removeprefix("table ") for part in name.split(":")]
    if len(parts) != 3:
        raise InputError(f"{name}: name a row as <paper>:<table>:<row>, e.g. HMFS:2:3.")
    of_paper = [row for row in rows() if row.paper.lower() == parts[0]]
    if not of_paper:
        raise InputError(f"{name}: no such paper. {_near_paper(parts[0])}")
    of_table = [row for row in of_paper if _number(row.table) == parts[1]]
    if not of_table:
        known = _listed(row.table for row in of_paper)
        raise InputError(f"{name}: {of_paper[0].paper} has no such table. Known: {known}.")
    if not parts[2].isdigit() or not 1 <= int(parts[2]) <= len(of_table):
        raise InputError(f"{name}: {of_table[0].table} has rows 1 to {len(of_table)}. Name one.")
    return of_table[int(parts[2]) - 1]


def experiment(row: PublishedRow) -> dict[str, Any]:
    """The experiment that runs a row again under its paper's protocol, as in a YAML file.

    Raises InputError if the row is not an IoU, or its method or variant is unknown here.
    """
    if row.method not in METHODS:
        known = ", ".join(METHODS)
        raise InputError(f"{row.name}: no method here is {row.method!r}. Ours: {known}.")
    if row.metric not in METRICS or row.shot is None:
        why = NOT_RUN.get(row.metric, f"{row.metric} is not a score of one shot")
        raise InputError(f"{row.name}: {row.metric} is not re-run: {why}.")
    source, _, target = row.dataset.partition("->")
    protocol: dict[str, Any] = {"name": "fss1000" if source == "FSS-1000" else PROTOCOLS[row.paper]}
    if row.shot > 1 and row.method in TRAINED_APART and row.method != row.paper:
        protocol["five_shot"] = "apart"
    if row.shot > 1 and (row.paper, row.method) in ONE_SIZE:
        protocol |= ONE_SIZE[row.paper, row.method][0]
    entry = _variant(row)
    if row.method == "MiningFSS" and row.backbone == "ResNet101" and row.shot > 1:
        # Section 4.1: 16 pseudo-labelled images a step there, in place of 32
        entry = {**entry, "options": {**entry.get("options", {}), "pseudo_per_pair": 4}}
    return {
        "name": f"verify-{row.paper}-{_number(row.table)}-{row.name.rsplit(':', 1)[1]}".lower(),
        "dataset": (target or source).lower(),
        "train_on": source.lower() if target else "",
        "protocol": protocol,
        "grid": {
            "fold": [0] if source == "FSS-1000" else [0, 1, 2, 3],
            "shot": [row.shot],
            "way": [entry.get("options", {}).get("ways", 1)],
            "method": [{**entry, "variant": row.variant}],
            "backbone": [_backbone(row)],
        },
    }


def why_not_run(row: PublishedRow) -> str:
    """Why a row cannot be run again; empty if it can. Every trial of the row is made."""
    from fssplat.methods import METHODS

    try:
        expand(ExperimentSpec.model_validate(experiment(row)), METHODS)
    except InputError as error:
        return str(error).removeprefix(f"{row.name}: ")
    return ""


def own_settings(row: PublishedRow) -> str:
    """How our run of a row differs from what the paper says; empty if it does not."""
    several = row.shot is not None and row.shot > 1
    return ONE_SIZE.get((row.paper, row.method), ({}, ""))[1] if several else ""


def metric(row: PublishedRow) -> str:
    """The name of the printed value in a trial's metrics."""
    at_473 = "_473" if "scored at 473x473" in row.variant else ""
    return METRICS[row.metric] + at_473


def _backbone(row: PublishedRow) -> str:
    if row.backbone == "VGG16" and row.method in VGG_WITH_BATCH_NORM:
        return "vgg16_bn"
    name = BACKBONES.get(row.backbone, "resnet50")  # ablations that do not state it use ResNet-50
    return f"{name}_v2" if (row.paper, row.backbone) in DEEP_STEM else name


def _variant(row: PublishedRow) -> dict[str, Any]:
    """The method entry of a row. Raises InputError for a variant whose options are unknown."""
    if not row.variant:
        return {"name": METHODS[row.method]}
    if row.variant == AUGMENTED and row.method == "HSNet":
        return {"name": "hsnet", "training": {"augment": {"flip": True, "blur": True}}}
    known = VARIANTS.get(row.paper, {})
    if row.variant in NOT_IMPLEMENTED:
        raise InputError(f"{row.name}: not implemented here: {NOT_IMPLEMENTED[row.variant]}.")
    if row.variant not in known:
        listed = ", ".join(known) or "none"
        raise InputError(
            f"{row.name}: variant {row.variant!r} has no known options. Known: {listed}."
        )
    return {"name": METHODS[row.method], **known[row.variant]}


def _row(line: Mapping[str, str], number: int) -> PublishedRow:
    return PublishedRow(
        name=f"{line['paper']}:{line['table'].removeprefix('Table ')}:{number}",
        paper=line["paper"],
        table=line["table"],
        dataset=line["dataset"],
        method=line["method"],
        variant=line["variant"],
        backbone=line["backbone"],
        shot=int(line["shot"]) if line["shot"] else None,
        metric=line["metric"],
        folds=tuple(_percent(line[f"fold{fold}"]) for fold in range(4)),
        mean=_percent(line["mean"]),
        notes=line["notes"],
    )


def _percent(text: str) -> float | None:
    return float(text) if text else None


def _number(table: str) -> str:
    return table.lower().removeprefix("table ").strip()


def _near_paper(given: str) -> str:
    return known(given, dict.fromkeys(row.paper for row in rows()))


def matching(prefix: str) -> list[PublishedRow]:
    """The rows of a paper or of a paper's table; all rows for an empty prefix.

    Raises InputError if there is none.
    """
    wanted = [part.strip().lower().removeprefix("table ") for part in prefix.split(":") if part]
    found = [row for row in rows() if row.name.lower().split(":")[: len(wanted)] == wanted]
    if not found:
        raise InputError(f"{prefix}: no such paper or table. {_near_paper(wanted[0])}")
    return found


def _listed(names: Any) -> str:
    return ", ".join(dict.fromkeys(names))
