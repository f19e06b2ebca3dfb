"""The models of a store: finished trainings and imported bundles, with names for people.

<store>/jobs/<key>/      a training, and the trials that were scored with its weights
<store>/models/<name>/   an imported bundle
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.common.json_files import json_object
from fssplat.common.plain_names import is_plain_path
from fssplat.common.similar import did_you_mean
from fssplat.engine.predicting.model_files import FILES, MODEL, WEIGHTS
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.trial import Trial
from fssplat.results.reading import content
from fssplat.results.records import Result
from fssplat.results.store import Store

BUNDLES = "models"  # folder of the store
SHORTEST_ID = 6  # characters of an id that name a model
SHOWN = 8  # models in a message


@dataclass(frozen=True)
class StoredModel:
    """A model of a store."""

    name: str  # the shortest that tells it from the other models of its store
    id: str  # key of the training, or name of the bundle
    folder: str  # in the store
    trial: Trial  # the first that was scored with it
    trial_ids: tuple[str, ...] = ()
    miou: Mapping[int, float] | None = None  # by shot, at the protocol's first size

    @property
    def parts(self) -> tuple[str, ...]:
        """Method, backbone, training data set, fold and training seed, as names have them."""
        trial = self.trial
        method = trial.method.label.replace(":", "-")
        return (
            method,
            trial.backbone.name,
            trial.train_on.name,
            f"fold{trial.fold}",
            f"seed{trial.training.seed}",
        )


def models_in(store: Store) -> list[StoredModel]:
    """Every model whose files are there, in the order of their names."""
    return _named([*_trainings(store), *_bundles(store)])


def find_model(store: Store, text: str) -> StoredModel:
    """The model with this name, or whose id, or that of one of its trials, starts with it.

    A name is any of method, backbone, data set, fold and seed in this order, such as hsnet-fold0.
    Raises InputError if none fits, or several.
    """
    models = models_in(store)
    fitting = [one for one in models if text.lower() in _names_of(one)]
    if not fitting and len(text) >= SHORTEST_ID:
        fitting = [
            one for one in models if any(i.startswith(text) for i in (one.id, *one.trial_ids))
        ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            f"model {text}: {len(fitting)} models of {store.shown_address} have this name: "
            f"{_listed(fitting)}. Add a part, or give an id (`fssplat models`)."
        )
    names = [one.name for one in models]
    hint = did_you_mean(text, names)
    raise InputError(
        f"model {text}: not in {store.shown_address}. {hint + ' ' if hint else ''}"
        f"Models there: {_listed(models) or 'none'}. Give another store with --store."
    )


def local_folder(store: Store, model: StoredModel, scratch: Path) -> Path:
    """The model's files on this machine; those of a store behind an address go to `scratch`."""
    if store.folder is not None:
        return store.folder / model.folder
    for name in FILES:
        store.files.get(f"{model.folder}/{name}", scratch / name)
    return scratch


# ------------------------------------------------------------------ read


def _trainings(store: Store) -> list[StoredModel]:
    ids = [one for one in store.files.folders() if re.fullmatch(r"[0-9a-f]{16}", one)]
    results = store.results(ids)
    specs = store.files.read_many([f"{one}/spec.json" for one in results])
    groups: dict[str, list[tuple[str, Trial, Result]]] = {}
    for trial_id, result in results.items():
        job = str(result.about.get("job", ""))
        trial = _trial(specs.get(f"{trial_id}/spec.json", b""))
        if trial is not None and job and is_plain_path(job):
            groups.setdefault(job, []).append((trial_id, trial, result))
    there = store.files.read_many([f"jobs/{job}/{MODEL}" for job in groups])
    found = []
    for job, members in groups.items():
        folder = f"jobs/{job}"
        if f"{folder}/{MODEL}" not in there or WEIGHTS not in store.files.sizes(folder):
            continue
        members.sort(key=lambda one: (one[1].shot, one[0]))
        miou = {trial.shot: result.metrics["miou"] for _, trial, result in members
                if "miou" in result.metrics}  # fmt: skip
        ids = [trial_id for trial_id, _, _ in members]
        found.append(StoredModel("", job, folder, members[0][1], tuple(ids), miou))
    return found


def _bundles(store: Store) -> list[StoredModel]:
    names = [one for one in store.files.folders(BUNDLES) if is_plain_path(one)]
    files = store.files.read_many([f"{BUNDLES}/{one}/{MODEL}" for one in names])
    found = []
    for name in names:
        folder = f"{BUNDLES}/{name}"
        try:
            record = json_object(content(files.get(f"{folder}/{MODEL}", b"")))
            trial = validate(Trial, record.get("trial"), folder)
        except (ValueError, InputError):
            continue  # such as a bundle that is being imported
        found.append(StoredModel("", name, folder, trial))
    return found


def _trial(data: bytes | OSError) -> Trial | None:
    """The trial in a spec.json; None if another version wrote it or it is damaged."""
    try:
        return validate(Trial, json_object(content(data)), "spec.json")
    except (ValueError, InputError):
        return None


# ------------------------------------------------------------------ names


def _names_of(model: StoredModel) -> set[str]:
    """All that a person may call the model, in lower case; a bundle has only its own name."""
    if model.folder.startswith(BUNDLES):
        return {model.id.lower()}
    every = range(1, len(model.parts) + 1)
    chosen = (parts for count in every for parts in combinations(model.parts, count))
    return {model.name.lower(), *("-".join(one).lower() for one in chosen)} - {""}


def _named(models: list[StoredModel]) -> list[StoredModel]:
    """The models with the shortest names that differ, in their order."""
    taken = Counter(name for model in models for name in _names_of(model))
    named = []
    for model in models:
        method, backbone, data, fold, seed = model.parts
        candidates = (
            (method, fold), (method, data, fold), (method, backbone, fold),
            (method, backbone, data, fold), (method, backbone, data, fold, seed),
        )  # fmt: skip
        free = ("-".join(one) for one in candidates if taken["-".join(one).lower()] == 1)
        name = next(free, f"{'-'.join(model.parts)}-{model.id[:SHORTEST_ID]}")
        bundle = model.folder.startswith(BUNDLES)
        named.append(replace(model, name=model.id if bundle else name))
    return sorted(named, key=lambda one: one.name)


def _listed(models: Iterable[StoredModel]) -> str:
    names = [one.name for one in models]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
