"""The data sets, public lists and weights that trials read, and their fingerprints."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.data.cache import Bucket, is_remote
from fssplat.data.index import DatasetInfo, read_info
from fssplat.data.places import default_root
from fssplat.experiment.datasets import known_dataset
from fssplat.experiment.rules import dataset_names
from fssplat.experiment.schema import DatasetSpec, ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.planning.absolute_paths import absolute_trial, reads_weight_files

if TYPE_CHECKING:
    from fssplat.methods.base import FewShotSegmenter, MethodOptions


def dataset_infos(experiment: ExperimentSpec) -> dict[str, DatasetInfo]:
    """dataset.json of each data set, by name. Raises InputError if one is missing."""
    trained_on = [experiment.train_on] if experiment.train_on else []
    names = dict.fromkeys([*dataset_names(experiment), *trained_on])
    found = {}
    for name in names:
        spec = experiment.datasets.get(name, DatasetSpec(name=name))
        known_dataset(name, spec.root, experiment.name, experiment.datasets)
        root = spec.root or default_root(name)
        found[name] = dataset_info(name, root.rstrip("/"))
    return found


def dataset_info(name: str, root: str) -> DatasetInfo:
    """dataset.json at this root; no shard is opened. Raises InputError."""
    if is_remote(root):
        info = read_info(Bucket(root).read, root, name)
    else:
        info = read_info(lambda file: regular(Path(root) / file).read_bytes(), root, name)
    if info.name != name:
        raise InputError(
            f"{root}: contains {info.name}, not {name}. Set datasets.{name}.root to its folder."
        )
    return info


def content_fingerprints(trials: Sequence[Trial]) -> dict[str, str]:
    """Fingerprints of the lists and weights that trials read, by the name that trials use.

    Weight files are listed by their absolute path too, which workers use. Raises InputError for an
    unknown backbone, and as `checkpoint_fingerprints` does.
    """
    from fssplat.backbones import require_backbone, weight_content
    from fssplat.data.public_lists import lists_content

    trials = [*trials, *(absolute_trial(one) for one in trials if reads_weight_files(one))]
    found = checkpoint_fingerprints(trials)
    backbones = {trial.backbone.source: trial.backbone for trial in trials}
    for spec in backbones.values():
        require_backbone(spec.name)
    found |= {source: weight_content(spec) for source, spec in backbones.items()}
    pairs = ((trial, spec) for trial in trials for spec in (trial.train_on, trial.dataset))
    lists = {trial.protocol.lists_of(spec.name): (spec, trial.protocol) for trial, spec in pairs}
    found |= {name: lists_content(*read) for name, read in lists.items()}
    return {name: content for name, content in found.items() if content}


def checkpoint_fingerprints(trials: Sequence[Trial]) -> dict[str, str]:
    """Fingerprint of each `training.checkpoint`, by its path.

    Raises InputError if a file is missing, or if its weights are of another method or backbone.
    """
    from fssplat.engine.checkpoint import check_owner, identity

    found = {}
    for trial in trials:
        given = trial.training.checkpoint
        if given:
            header, found[given] = identity(Path(given))
            expected = replace(header, method=trial.method.name, backbone=trial.backbone.name)
            check_owner(header, expected, given)
    return found


def check_weights(trials: Sequence[Trial]) -> list[str]:
    """Check the networks of trials, and the weights and other files that they read.

    Weights are compared by names and shapes. Returns a line for each backbone whose weights will
    be downloaded, so that they were not checked. Raises InputError where a job would fail.
    """
    from fssplat.backbones.weight_checks import check_weights as check_backbone
    from fssplat.experiment.checks.problems import validate
    from fssplat.experiment.schema import digest
    from fssplat.methods import method_named

    lines: list[str] = []
    checked: set[tuple[object, ...]] = set()
    for trial in trials:
        method, spec = method_named(trial.method.name), trial.backbone
        options = validate(method.Options, trial.method.options, f"{trial.method.name}.options")
        layout = method.backbone_layout(spec.name, options)
        timm = spec.name.startswith("timm:")  # their layout changes more than the stages
        key: tuple[object, ...] = (spec.name, spec.weights, layout if timm else layout.stages)
        if key not in checked:
            checked.add(key)
            lines.append(check_backbone(spec, layout))
        network = (trial.method.name, digest(trial.method.options), spec.name)
        if network not in checked:
            checked.add(network)
            method.check_files(options)
            if not _is_tested(trial, method, options):
                _meta_network(trial)
        given = (trial.training.checkpoint, spec.name, digest(trial.method))
        if given[0] and given not in checked:
            checked.add(given)
            _check_checkpoint(trial)
    return list(dict.fromkeys(filter(None, lines)))


def _check_checkpoint(trial: Trial) -> None:
    """Raises InputError if the trial's checkpoint does not fit its network."""
    from fssplat.engine.checkpoint import check_fit

    check_fit(Path(trial.training.checkpoint), _meta_network(trial))


def _is_tested(trial: Trial, method: "type[FewShotSegmenter]", options: "MethodOptions") -> bool:
    """Whether the tests build this network: a method and a backbone of fssplat, default options."""
    from fssplat.backbones import BACKBONES
    from fssplat.methods import METHODS

    defaults = method.Options(**method.options_for(trial.train_on.name))
    return trial.method.name in METHODS and trial.backbone.name in BACKBONES and options == defaults


def _meta_network(trial: Trial) -> "FewShotSegmenter":
    """The trial's network without values. Raises InputError if it cannot be built."""
    import torch

    from fssplat.methods import build_method

    with torch.device("meta"):
        return build_method(trial.method, trial.backbone)
