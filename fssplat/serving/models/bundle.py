"""A model as one file that another laboratory can import: JSON and safetensors in a zip archive.

    bundle.json             name, protocol, data, scores, and size and SHA-256 of each other file
    model.json, weights.safetensors, evaluation.safetensors   see `engine.predicting.model_files`
    README.md               the model card

The archive is not compressed. Nothing is unpickled, only these names are read, and a method that is
code outside of this package is refused.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fssplat import __version__
from fssplat.common.errors import InputError
from fssplat.common.json_files import json_object
from fssplat.common.plain_names import plain_name
from fssplat.common.printing import command_line
from fssplat.common.whole_files import write_bytes, write_whole
from fssplat.engine.predicting.model_files import EVALUATION, FILES, MODEL, WEIGHTS
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.trial import Trial
from fssplat.results.store import Store
from fssplat.serving.models.catalogue import BUNDLES, StoredModel, models_in

ABOUT, CARD = "bundle.json", "README.md"
FORMAT = 1
SUFFIX = ".fssplat"
MOST_BYTES = 2**34  # of one file in a bundle
MOST_TEXT = 2**24  # of a JSON file


def export_bundle(model: StoredModel, source: Path, out: Path, fingerprint: str = "") -> Path:
    """Write a model's files in `source` as one file; returns its path.

    `fingerprint` is that of the training data, if known. Raises InputError.
    """
    present = [name for name in FILES if (source / name).is_file()]
    if MODEL not in present or WEIGHTS not in present:
        raise InputError(f"model {model.name}: {source} has no {MODEL} and {WEIGHTS}.")
    text = (source / MODEL).read_bytes()
    trial = _trial(json_object(text), str(source / MODEL))
    facts = _facts(model, trial, fingerprint)
    facts["files"] = {name: _facts_of(source / name) for name in present}
    path = out / f"{model.name}{SUFFIX}" if out.is_dir() else out

    def write(place: Path) -> None:
        with zipfile.ZipFile(place, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(ABOUT, json.dumps(facts, indent=1, sort_keys=True) + "\n")
            archive.writestr(CARD, card(facts, trial))
            for name in present:
                archive.write(source / name, name)

    try:
        write_whole(path, write)
    except OSError as error:
        raise InputError(
            f"--out {path}: cannot be written ({error.strerror or error}). Choose another."
        ) from error
    return path


def import_bundle(path: Path, store: Store, name: str = "") -> str:
    """Check a bundle and put it into a store; returns the name of the model there.

    Raises InputError for a bundle that is damaged, has other files, or has a name that is taken.
    """
    if store.folder is None:
        raise InputError(f"store {store.shown_address}: import into a folder, then copy it.")
    with opened(path) as archive:
        facts = checked(archive, path)
        chosen = plain_name(name or str(facts.get("name")), f"{path}, name")
        folder = store.folder / BUNDLES / chosen
        if chosen in {model.name for model in models_in(store)}:
            raise InputError(
                f"store {store.shown_address}: it has a model {chosen} already. Choose another "
                "name with --name."
            )
        for file in _files_of(facts):  # all, before the first is written
            _checked_bytes(archive, path, facts, file)
        Store.open(store.address)
        extract(archive, path, facts, folder)
    return chosen


def opened(path: Path) -> zipfile.ZipFile:
    """The archive. Raises InputError if it is no bundle."""
    if path.exists() and not path.is_file():  # a pipe would never end
        raise InputError(f"{path}: not a file. Give a bundle of `fssplat export`.")
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Give a bundle of `fssplat export`.") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no bundle, or cut short ({error}). Copy it again.") from error


def checked(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """bundle.json, after names, sizes and the method are checked. Raises InputError."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    strange = sorted(set(entries) - {ABOUT, CARD, *FILES})
    if strange or len(entries) < len(archive.infolist()):
        what = ascii(strange[0])[:60] if strange else "a file twice"
        raise InputError(f"{path}: it has {what}, which a bundle does not have. Do not use it.")
    for entry in entries.values():
        most = MOST_BYTES if entry.filename.endswith(".safetensors") else MOST_TEXT
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > most:
            raise InputError(f"{path}: {entry.filename} is compressed or too large.")
    try:
        facts = json_object(archive.read(ABOUT))
        model = json_object(archive.read(MODEL))
    except (KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: {ABOUT} or {MODEL} is missing or damaged. Copy it again."
        ) from error
    files = facts.get("files")
    if facts.get("format") != FORMAT or not isinstance(files, dict):
        raise InputError(f"{path}: not a bundle of this fssplat (format {FORMAT}).")
    if set(files) != set(entries) - {ABOUT, CARD} or WEIGHTS not in files:
        raise InputError(f"{path}: its files are not those that {ABOUT} names. Copy it again.")
    method = _trial(model, f"{path}, {MODEL}").method.name
    if ":" in method:
        raise InputError(
            f"{path}: its method {method} is code outside of fssplat, which is not imported. "
            "Install its package and train there."
        )
    return facts


def extract(archive: zipfile.ZipFile, path: Path, facts: Mapping[str, Any], folder: Path) -> None:
    """Write the files of a checked bundle into a folder, model.json last. Raises InputError."""
    for name in _files_of(facts):
        write_bytes(folder / name, _checked_bytes(archive, path, facts, name))


def _files_of(facts: Mapping[str, Any]) -> list[str]:
    return [name for name in (EVALUATION, WEIGHTS, MODEL) if name in facts["files"]]


def _checked_bytes(
    archive: zipfile.ZipFile, path: Path, facts: Mapping[str, Any], name: str
) -> bytes:
    """A file of the bundle. Raises InputError if it is not what bundle.json says."""
    wanted = facts["files"][name]
    try:
        data = archive.read(name)
    except (zipfile.BadZipFile, RuntimeError, OSError) as error:
        raise InputError(f"{path}: {name} is damaged ({error}). Copy it again.") from error
    if not isinstance(wanted, dict) or wanted != _facts_of_bytes(data):
        raise InputError(f"{path}: {name} is not what {ABOUT} says. Copy it again.")
    return data


def card(facts: Mapping[str, Any], trial: Trial) -> str:
    """The model card, in Markdown."""
    scores = ", ".join(f"{shot}-shot {value:.1f}" for shot, value in facts.get("miou", {}).items())
    training = trial.training
    length = (
        f"{training.steps} steps" if training.steps is not None else f"{training.epochs} epochs"
    )
    rows = {
        "method": trial.method.label,
        "backbone": f"{trial.backbone.name} (frozen weights are not in this file)",
        "trained on": f"{trial.train_on.name}, fold {trial.fold}, {length}, seed {training.seed}",
        "fingerprint of the data": facts["data"]["fingerprint"] or "not recorded",
        "protocol": f"{trial.protocol.name} ({trial.protocol.hash})",
        "mIoU on novel classes": scores or "not scored",
        "fssplat": facts["fssplat"],
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    name = facts["name"]
    take = command_line(["fssplat", "import", f"{name}{SUFFIX}"])
    use = ["fssplat", "predict", "--model", name, "--support", "refs", "--query", "photos"]
    return (
        f"# {name}\n\nA few-shot segmentation model of fssplat: it finds in a picture "
        f"what was marked in a few others.\n\n| | |\n|---|---|\n{lines}\n\n"
        f"To use it: `{take}`, then `{command_line([*use, '--out', 'masks'])}`.\n"
    )


def _facts(model: StoredModel, trial: Trial, fingerprint: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "fssplat": __version__,
        "name": model.name,
        "training": model.id,
        "method": trial.method.label,
        "backbone": trial.backbone.name,
        "data": {"name": trial.train_on.name, "fold": trial.fold, "fingerprint": fingerprint},
        "protocol": {"name": trial.protocol.name, "hash": trial.protocol.hash},
        "miou": {str(shot): round(100 * value, 4) for shot, value in (model.miou or {}).items()},
    }


def _trial(record: dict[str, Any], where: str) -> Trial:
    return validate(Trial, record.get("trial"), where)


def _facts_of(path: Path) -> dict[str, Any]:
    return _facts_of_bytes(path.read_bytes())


def _facts_of_bytes(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
