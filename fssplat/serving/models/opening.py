"""Open the model that a person names.

It is in a store, in MLflow or in a bundle, or it is a method that needs no training.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fssplat.common.errors import InputError
from fssplat.engine import checkpoint
from fssplat.engine.device import CPU, best_device
from fssplat.engine.network import fresh_network
from fssplat.engine.predicting.model_files import MODEL
from fssplat.engine.predicting.predictor import Predictor
from fssplat.engine.random_state import kept_random_state
from fssplat.experiment.checks.problems import validate
from fssplat.experiment.expand import expand
from fssplat.experiment.schema import ExperimentSpec, digest
from fssplat.experiment.trial import Trial
from fssplat.methods import METHODS, method_named
from fssplat.results.store import Store
from fssplat.serving.models import bundle
from fssplat.serving.models.catalogue import find_model, local_folder

STORE = "results"  # where models are looked for unless another store is named
BACKBONE = "efficientnet_lite0"  # of a method without training; its weights are a small package
MLFLOW = ("models:/", "runs:/", "mlflow-artifacts:/")


@dataclass(frozen=True)
class Model:
    """A model in memory."""

    name: str
    predictor: Predictor
    source: str  # where it was found, for a person
    miou: Mapping[int, float] = field(default_factory=dict)  # by shot, if it was scored

    @property
    def trial(self) -> Trial:
        return self.predictor.trial

    @property
    def key(self) -> str:
        """Equal for models that predict the same."""
        trial = self.trial
        weights = checkpoint.crc32(dict(sorted(self.predictor.network.state_dict().items())))
        return digest(trial.method, trial.protocol, trial.evaluation, trial.training.size, weights)


def load_model(
    name: str,
    store: str | Path = STORE,
    backbone: str = "",
    device: torch.device | None = None,
) -> Model:
    """Open a model by any of its names.

    `name` is that of a model in the store (`fssplat models`), an id of a training or a trial, an
    address of MLflow such as models:/m-..., the path of a bundle or of a folder with model.json, or
    a method without training such as prior. `backbone` is for the latter alone. Raises InputError.
    """
    device = device or best_device()
    if name in METHODS and not METHODS[name].TRAINED:
        return _untrained(name, backbone or BACKBONE, device)
    if backbone:
        raise InputError(
            f"--backbone {backbone}: a trained model has its own backbone. Leave it out."
        )
    if name.startswith(MLFLOW):
        from fssplat.tracking.models import download_model

        with tempfile.TemporaryDirectory(prefix="fssplat-model-") as scratch:
            folder = download_model(name, Store(str(store)), Path(scratch))
            return Model(name, Predictor.load(folder, device), f"MLflow, {name}")
    path = Path(name)
    if path.suffix == bundle.SUFFIX or path.is_file():
        return _of_bundle(path, device)
    if (path / MODEL).is_file():
        return Model(path.name, Predictor.load(path, device), str(path))
    return _of_store(name, Store(str(store)), device)


def _of_store(name: str, store: Store, device: torch.device) -> Model:
    if not store.files.folders():
        raise InputError(
            f"model {name}: there is no store at {store.shown_address}. Name one with --store, or "
            f"give a bundle or a method without training ({', '.join(untrained())})."
        )
    found = find_model(store, name)
    with tempfile.TemporaryDirectory(prefix="fssplat-model-") as scratch:
        folder = local_folder(store, found, Path(scratch))
        predictor = Predictor.load(folder, device)
    source = f"{store.shown_address}/{found.folder}"
    return Model(found.name, predictor, source, found.miou or {})


def _of_bundle(path: Path, device: torch.device) -> Model:
    with tempfile.TemporaryDirectory(prefix="fssplat-model-") as scratch:
        with bundle.opened(path) as archive:
            facts = bundle.checked(archive, path)
            bundle.extract(archive, path, facts, Path(scratch))
        return Model(path.stem, Predictor.load(Path(scratch), device), str(path))


def untrained() -> list[str]:
    """The methods that need no training."""
    return [name for name, method in METHODS.items() if not method.TRAINED]


def _untrained(name: str, backbone: str, device: torch.device) -> Model:
    """A method without training, at the size that it has for ordinary photographs."""
    values = {
        "name": "predict",
        "dataset": "pascal-5i",
        "grid": {"method": [name], "backbone": [backbone]},
        "training": {},
    }
    experiment = validate(ExperimentSpec, values, "--model")
    (trial,) = expand(experiment, {name: method_named(name)})
    with kept_random_state(CPU):
        network = fresh_network(trial)
    shown = f"{name} with {backbone}, without training"
    return Model(f"{name}-{backbone}", Predictor(network, trial, device), shown)
