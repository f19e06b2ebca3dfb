"""The data sets, public lists and weights that trials read, and their fingerprints."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.data.cache import Bucket, is_remote
from fssplat.data.index import DatasetInfo, default_root, read_info
from fssplat.experiment.rules import dataset_names
from fssplat.experiment.schema import ExperimentSpec
from fssplat.experiment.trial import Trial
from fssplat.planning.absolute_paths import absolute_trial, reads_weight_files


def dataset_infos(experiment: ExperimentSpec) -> dict[str, DatasetInfo]:
    """dataset.json of each data set, by name. Raises InputError if one is missing."""
    trained_on = [experiment.train_on] if experiment.train_on else []
    names = dict.fromkeys([*dataset_names(experiment), *trained_on])
    found = {}
    for name in names:
        spec = experiment.datasets.get(name)
        root = spec.root if spec and spec.root else default_root(name)
        found[name] = dataset_info(name, root.rstrip("/"))
    return found


def dataset_info(name: str, root: str) -> DatasetInfo:
    """dataset.json at this root; no shard is opened. Raises InputError."""
    if is_remote(root):
        info = read_info(Bucket(root).read, root, name)
    else:
        info = read_info(lambda file: (Path(root) / file).read_bytes(), root, name)
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
