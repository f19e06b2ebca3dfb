"""The remote protocol of X-AnyLabeling, in which every registered set of supports is a model.

GET /v1/models, GET /v1/models/NAME/info, POST /v1/predict {model, image, params}
"""

from collections.abc import Mapping
from typing import Any

from fssplat.engine.predicting.prepared import HALF, Segmented
from fssplat.serving.outputs.outlines import outlines
from fssplat.serving.server.registered import RegisteredSet


def described(supports: RegisteredSet, model: str) -> dict[str, Any]:
    """A set of supports as the tool lists it: its name, and the controls that have an effect."""
    return {
        "display_name": f"{supports.name} ({', '.join(supports.classes)})",
        "widgets": [
            {"name": "button_run", "value": None},
            {"name": "edit_conf", "value": HALF},
            {"name": "toggle_preserve_existing_annotations", "value": False},
        ],
        "params": {"model": model},
        "batch_processing_mode": "default",
    }


def threshold_of(params: Mapping[str, Any]) -> float:
    """The least probability of a pixel; the tool sends 0 until a person has changed it."""
    value = params.get("conf_threshold")
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1
    return float(value) if usable and value is not None else HALF


def answer(found: Segmented) -> dict[str, Any]:
    """The regions of each class as polygons, largest first."""
    shapes = []
    for place, name in enumerate(found.classes, start=1):
        for outline in outlines(found.labels == place):
            shapes.append(
                {
                    "label": name,
                    "shape_type": "polygon",
                    "points": [[float(x), float(y)] for x, y in outline],
                    "score": round(found.confidence[name], 4),
                    "attributes": {},
                    "description": None,
                    "difficult": False,
                    "direction": 0,
                    "flags": None,
                    "group_id": None,
                    "kie_linking": [],
                }
            )
    return {"shapes": shapes, "description": "", "replace": None}
