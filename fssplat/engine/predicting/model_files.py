"""The files of a finished training, which are the whole model.

    model.json              the trial as resolved, versions, and a checksum of the frozen weights
    weights.safetensors     the weights that training changed
    evaluation.safetensors  other tensors that the method reads when it scores (rare)

The frozen backbone is not copied: it is built again by name and must have the same checksum.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from fssplat.common.errors import InputError
from fssplat.common.json_files import json_object
from fssplat.common.whole_files import write_json, write_whole
from fssplat.engine import checkpoint
from fssplat.engine.checkpoint import Header
from fssplat.engine.device import CPU
from fssplat.engine.network import fresh_network
from fssplat.engine.random_state import kept_random_state
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.trial import ENGINE_RESULT_VERSION, Trial
from fssplat.methods import method_named
from fssplat.methods.base import FewShotSegmenter

MODEL, WEIGHTS, EVALUATION = "model.json", "weights.safetensors", "evaluation.safetensors"
FILES = (MODEL, WEIGHTS, EVALUATION)
FORMAT = 1


def load_network(folder: Path) -> tuple[FewShotSegmenter, Trial]:
    """The network in eval mode, and the trial that it was saved for.

    Raises InputError if a file is missing or damaged, the backbone has other weights here, or the
    results of the method or the engine have changed since.
    """
    record = read_model_json(folder / MODEL)
    trial = validate(Trial, record.get("trial"), f"{folder / MODEL}")
    _check_versions(trial, record, folder)
    with kept_random_state(CPU):
        network = fresh_network(trial)
    found = checkpoint.load(folder / WEIGHTS)
    names = Header(found.header.key, trial.method.name, trial.backbone.name, 0, 0)
    checkpoint.check_owner(found.header, names, str(folder / WEIGHTS))
    if frozen_crc32(network) != record.get("frozen_crc32"):
        raise InputError(
            f"{folder / MODEL}: backbone {trial.backbone.name} ({trial.backbone.weights}) has "
            "other weights here than in the training. Put the same file into $FSSPLAT_WEIGHTS."
        )
    checkpoint.load_weights(network, found, str(folder / WEIGHTS))
    network.eval()
    if (folder / EVALUATION).is_file():
        network.load_evaluation_state(load_file(folder / EVALUATION))
    return network, trial


def save_model(network: FewShotSegmenter, trial: Trial, folder: Path) -> None:
    """Write model.json and evaluation.safetensors of a trained network in eval mode."""
    if (folder / MODEL).is_file():
        return
    network.before_evaluation()
    state = network.evaluation_state()
    if state:
        kept = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        write_whole(folder / EVALUATION, lambda temporary: save_file(kept, temporary))
    record = {
        "format": FORMAT,
        "engine_version": ENGINE_RESULT_VERSION,
        "frozen_crc32": frozen_crc32(network),
        "trial": portable(trial).model_dump(mode="json"),
    }
    write_json(folder / MODEL, record)


def model_json(folder: Path, trial: Trial) -> str:
    """`model.json` for another trial that shares the training: with its own scoring options."""
    record = {**read_model_json(folder / MODEL), "trial": portable(trial).model_dump(mode="json")}
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


def portable(trial: Trial) -> Trial:
    """The trial without the folders of this machine, which do not belong to a model."""
    nowhere = {"root": ""}
    changes = {
        "dataset": trial.dataset.model_copy(update=nowhere),
        "train_on": trial.train_on.model_copy(update=nowhere),
        "training": trial.training.model_copy(update={"checkpoint": ""}),
    }
    return trial.model_copy(update=changes)


def frozen_crc32(network: FewShotSegmenter) -> int:
    """Checksum of the tensors that a checkpoint leaves out: the frozen backbone."""
    trained = checkpoint.weights(network)
    rest = {name: v for name, v in network.state_dict().items() if name not in trained}
    return checkpoint.crc32(dict(sorted(rest.items())))


def read_model_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file. A model is the folder of a finished training.")
    try:
        record = json_object(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: {error}. Copy the model again.") from error
    if record.get("format") != FORMAT:
        raise InputError(f"{path}: not a model of this program (format {FORMAT}).")
    return record


def _check_versions(trial: Trial, record: dict[str, Any], folder: Path) -> None:
    made = (trial.method_version, record.get("engine_version"))
    here = (method_named(trial.method.name).RESULT_VERSION, ENGINE_RESULT_VERSION)
    if made != here:
        raise InputError(
            f"{folder / MODEL}: made by version {made[0]} of {trial.method.name} and {made[1]} of "
            f"the engine, here are {here[0]} and {here[1]}, which predict differently. Install the "
            "commit that the model names, or train again."
        )
