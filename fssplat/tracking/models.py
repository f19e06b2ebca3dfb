"""A finished training as an MLflow model: support images, masks and a query in, a mask out.

MLflow loads it through `_load_pyfunc` below, since the model's MLmodel file names this module.
Nothing is pickled: the model is the training's JSON and safetensors, and the code is the installed
package. A version of fssplat that gives other numbers refuses to load it. To load a model:

    model = mlflow.pyfunc.load_model("models:/<model id>")
    mask = model.predict({"query": query, "supports": [image], "masks": [mask]})
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fssplat import __version__
from fssplat.common.errors import InputError
from fssplat.common.passwords import hidden
from fssplat.engine.predicting.model_files import EVALUATION, MODEL, WEIGHTS, model_json
from fssplat.engine.predicting.predictor import Predictor
from fssplat.experiment.schema import digest
from fssplat.experiment.trial import Trial
from fssplat.results.store import Store
from fssplat.tracking.server.connection import MlflowError, mlflow_errors, tracking_uri

Mask = npt.NDArray[np.uint8]  # [H, W]
INPUTS = {
    "query": "uint8 RGB [H, W, 3]",
    "supports": "K images, uint8 RGB [h, w, 3] each, of any size",
    "masks": "K of [h, w]: 0 and one more value, the object; beside 0 and 1, 255 is ignored",
}


class Segmenter:
    """The object that `mlflow.pyfunc.load_model` wraps."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: Any = None) -> Mask | list[Mask]:
        """One episode, a mapping of `INPUTS` -> its mask uint8 [H, W]. Several -> a list of masks.

        Several episodes are a list of mappings, or one mapping of arrays with the episode as first
        axis, as MLflow's scoring server makes it from `{"instances": [...]}`.
        Raises InputError for anything else.
        """
        if isinstance(model_input, Mapping) and _pixels(model_input.get("query", 0)).ndim != 4:
            return self._one(model_input)
        return [self._one(episode) for episode in _episodes(model_input)]

    def _one(self, episode: Mapping[str, Any]) -> Mask:
        if set(episode) != set(INPUTS):
            wanted = "; ".join(f"{name}: {what}" for name, what in INPUTS.items())
            raise InputError(f"model input {', '.join(map(str, episode))}: expected {wanted}.")
        for name in ("supports", "masks"):
            if not isinstance(episode[name], list | tuple | np.ndarray):
                raise InputError(f"model input {name}: expected {INPUTS[name]}.")
        images = [_pixels(image) for image in episode["supports"]]
        masks = [_pixels(mask) for mask in episode["masks"]]
        return self.predictor(_pixels(episode["query"]), images, masks)


def _episodes(value: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        lengths = {len(part) for part in value.values() if hasattr(part, "__len__")}
        if len(lengths) == 1:
            return [{name: part[i] for name, part in value.items()} for i in range(lengths.pop())]
    if isinstance(value, list) and all(isinstance(episode, Mapping) for episode in value):
        return value
    raise InputError(
        f"model input {type(value).__name__}: give a mapping of {', '.join(INPUTS)}, or a list of "
        "such mappings."
    )


def _pixels(value: Any) -> npt.NDArray[Any]:
    """Convert int64 pixels, as JSON gives them, to uint8. Raises InputError for ragged rows."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError("model input: the rows of an image have different lengths.") from error
    whole = np.issubdtype(array.dtype, np.integer) and array.dtype != np.uint8
    fits = whole and array.size and array.min() >= 0 and array.max() <= 255
    return array.astype(np.uint8) if fits else array


def _load_pyfunc(path: str, model_config: Any = None) -> Segmenter:
    """Load the model from the folder of its data. MLflow calls this."""
    return Segmenter(Predictor.load(Path(path)))


def download_model(address: str, store: Store, scratch: Path) -> Path:
    """The folder with a model's files, copied from MLflow to `scratch`.

    `address` is models:/... or runs:/...; the server is MLFLOW_TRACKING_URI or SQLite in the store.
    Raises InputError if there is no such model.
    """
    import mlflow

    uri, before = tracking_uri("", store), mlflow.get_tracking_uri()
    try:
        with mlflow_errors():
            mlflow.set_tracking_uri(uri)  # an argument is not used for models:/...
            found = mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=str(scratch))
    except MlflowError as error:
        raise InputError(
            f"model {address}: {error.shown} at {hidden(uri)}. Set MLFLOW_TRACKING_URI to the "
            "server that has it."
        ) from error
    finally:
        mlflow.set_tracking_uri(before)
    models = sorted(Path(found).rglob(MODEL))
    if not models:
        raise InputError(f"model {address}: it is not a model of fssplat ({MODEL} is missing).")
    return models[0].parent


def model_key(trial: Trial, job: str) -> str:
    """Names a model. Trials with the same weights and scoring share it, e.g. 1-shot and 5-shot."""
    return f"{job}-{digest(trial.method, trial.protocol, trial.evaluation, trial.way)}"


def write_model(
    folder: Path, source: Path, trial: Trial, card: Any, metadata: Mapping[str, str]
) -> None:
    """Write MLflow's model folder with the files of a finished training in `source`.

    `card` is the `mlflow.models.Model` that names the run and the model.
    """
    from mlflow import pyfunc

    card.metadata = dict(metadata)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "training"
        data.mkdir()
        (data / MODEL).write_text(model_json(source, trial), encoding="utf-8")
        for name in (WEIGHTS, EVALUATION):
            if (source / name).is_file():
                (data / name).symlink_to((source / name).absolute())
        pyfunc.save_model(
            path=str(folder),
            loader_module=__name__,
            data_path=str(data),
            mlflow_model=card,
            pip_requirements=[f"fssplat=={__version__}"],
        )
