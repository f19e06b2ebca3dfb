"""The five papers' printed results, and the experiment that runs a row again.

A row is named `<paper>:<table>:<row>`, e.g. `HMFS:2:3`: the third row of the paper's Table 2 in the
order of `published_results.csv`. Doubtful cells are marked in the row's notes.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.similar import known
from fssplat.data.readers.voc import CLASSES
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import ExperimentSpec
from fssplat.report.published_variants import AUGMENTED, HOST, NOT_IMPLEMENTED, VARIANTS

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
METRICS = {"mIoU": "miou", "FB-IoU": "fb_iou", "mIoU_gain": "miou", "class_IoU": "iou"}
NOT_RUN = {  # printed numbers that are not a score of a trial -> why
    "params_M": "no training is needed: `fssplat time` counts parameters",
    "learnable_params_M": "no training is needed: `fssplat time` counts parameters",
    "FPS": "depends on the hardware: `fssplat time` measures it on yours",
    "FPS_episodes": "depends on the hardware: `fssplat time` measures it on yours",
    "gpu_mem_MB": "depends on the hardware: `fssplat time` measures it on yours",
    "speed_rel_to_NA_1shot": "a ratio of speeds: `fssplat time` measures them on your hardware",
}
ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii")
CLASS = re.compile(r"; class (\d) of the fold$")  # in the variants of class_IoU


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
    parts = split_name(name)
    if len(parts) != 3:
        raise InputError(f"{name}: name a row as <paper>:<table>:<row>, e.g. HMFS:2:3.")
    of_table = _of_table(name, parts)
    if not parts[2].isdigit() or not 1 <= int(parts[2]) <= len(of_table):
        raise InputError(f"{name}: {of_table[0].table} has rows 1 to {len(of_table)}. Name one.")
    return of_table[int(parts[2]) - 1]


def matching(prefix: str) -> list[PublishedRow]:
    """The rows of a paper, of a paper's table, or of one row's name; all for an empty prefix.

    Raises InputError if there is none.
    """
    parts = split_name(prefix)
    if not parts:
        return list(rows())
    return [find(prefix)] if len(parts) > 2 else _of_table(prefix, parts)


def split_name(name: str) -> list[str]:
    """`HMFS:Table 2` as [hmfs, 2]."""
    parts = [part.strip().lower().removeprefix("table ") for part in name.split(":")]
    return [part for part in parts if part]


def _of_table(name: str, parts: Sequence[str]) -> list[PublishedRow]:
    """The rows of a paper, and of its table if `parts` names one. Raises InputError."""
    of_paper = [row for row in rows() if row.paper.lower() == parts[0]]
    if not of_paper:
        raise InputError(f"{name}: no such paper. {_near_paper(parts[0])}")
    if len(parts) == 1:
        return of_paper
    found = [row for row in of_paper if parts[1] in _numbers(row.table)]
    if not found:
        listed = ", ".join(dict.fromkeys(row.table for row in of_paper))
        raise InputError(f"{name}: {of_paper[0].paper} has no such table. Known: {listed}.")
    return found


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
    entry, below = _variant(row), _below(row)
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
            "method": [*below, {**entry, "variant": _name_of_variant(row)}],
            "backbone": [_backbone(row)],
        },
    }


def why_not_run(row: PublishedRow) -> str:
    """Why a row cannot be run again; empty if it can.

    Every trial of the row is made, and files that its method reads beside the data set are here.
    """
    from fssplat.methods import METHODS

    try:
        method = expand(ExperimentSpec.model_validate(experiment(row)), METHODS)[-1].method
        network = METHODS[method.name]
        network.check_files(network.Options.model_validate(method.options))
    except InputError as error:
        return str(error).removeprefix(f"{row.name}: ")
    return ""


def own_settings(row: PublishedRow) -> str:
    """How our run of a row differs from what the paper says; empty if it does not."""
    several = row.shot is not None and row.shot > 1
    return ONE_SIZE.get((row.paper, row.method), ({}, ""))[1] if several else ""


def metric(row: PublishedRow, fold: int = 0) -> str:
    """The name of the value printed for a fold in the metrics of its trial."""
    found = CLASS.search(row.variant)
    if found:
        return f"iou/{CLASSES[5 * fold + int(found[1]) - 1]}"
    at_473 = "_473" if "scored at 473x473" in row.variant else ""
    return METRICS[row.metric] + at_473


def _backbone(row: PublishedRow) -> str:
    if row.backbone == "VGG16" and row.method in VGG_WITH_BATCH_NORM:
        return "vgg16_bn"
    name = BACKBONES.get(row.backbone, "resnet50")  # ablations that do not state it use ResNet-50
    return f"{name}_v2" if (row.paper, row.backbone) in DEEP_STEM else name


def _variant(row: PublishedRow) -> dict[str, Any]:
    """The method entry of a row. Raises InputError for a variant whose options are unknown."""
    variant = _name_of_variant(row)
    if not variant:
        return {"name": METHODS[row.method]}
    if row.variant == AUGMENTED and row.method == "HSNet":
        return {"name": "hsnet", "training": {"augment": {"flip": True, "blur": True}}}
    known = VARIANTS.get(row.paper, {})
    if row.variant in NOT_IMPLEMENTED:
        raise InputError(f"{row.name}: not implemented here: {NOT_IMPLEMENTED[row.variant]}.")
    if variant not in known:
        listed = ", ".join(known) or "none"
        raise InputError(
            f"{row.name}: variant {row.variant!r} has no known options. Known: {listed}."
        )
    return {"name": METHODS[row.method], **known[variant]}


def _name_of_variant(row: PublishedRow) -> str:
    """The variant without the class that the row is about."""
    return CLASS.sub("", row.variant)


def _below(row: PublishedRow) -> list[dict[str, Any]]:
    """The entry that a gain is measured from; none for other rows."""
    gain = row.metric == "mIoU_gain"
    return [{"name": METHODS[row.method], **HOST, "variant": "base"}] if gain else []


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


def _numbers(table: str) -> tuple[str, ...]:
    """How a table may be named: `vii` is also `7`."""
    number = _number(table)
    return (number, str(ROMAN.index(number) + 1)) if number in ROMAN else (number,)


def _near_paper(given: str) -> str:
    return known(given, dict.fromkeys(row.paper for row in rows()))
