"""The routes of programs: register supports, predict, list models."""

import base64
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from fssplat.common.errors import InputError
from fssplat.engine.predicting.prepared import HALF, Segmented
from fssplat.results.store import Store
from fssplat.serving.models.catalogue import models_in
from fssplat.serving.models.opening import untrained
from fssplat.serving.outputs.files import png
from fssplat.serving.outputs.outlines import outlines
from fssplat.serving.outputs.predicted import Predicted
from fssplat.serving.server.pictures import from_text
from fssplat.serving.server.protocols import x_anylabeling
from fssplat.serving.server.registered import MarkedImage, RegisteredSet, with_unique_names
from fssplat.serving.server.services import Services, in_thread

Text = Annotated[str, Field(max_length=200)]
ARCHIVES = ("application/zip", "application/x-zip-compressed")


class Body(BaseModel):
    """JSON of a request: a name that is not known is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class GivenSupport(Body):
    """A picture in which objects are marked."""

    image: str = Field(description="The bytes of a picture as base64, or a data URI.")
    masks: dict[Text, str] = Field(
        description="Class -> PNG as base64: 0 is background, one more value is the object.",
        min_length=1,
    )
    name: Text = Field("", description="Of the picture, for messages.")


class GivenSupports(Body):
    """The pictures of one set."""

    images: list[GivenSupport] = Field(min_length=1)


class GivenQueries(Body):
    """Pictures to search. `image` with `model` and `params` is the form of X-AnyLabeling."""

    supports: Text = Field("", description="The name of a registered set.")
    images: list[str] = Field([], description="Pictures as base64, or data URIs.")
    model: Text = Field("", description="A name of GET /v1/models; empty: the server's.")
    threshold: float = Field(HALF, ge=0, le=1, description="Least probability of a pixel.")
    formats: list[Literal["png", "rle", "polygons"]] = Field(["png"], max_length=3)
    image: str = Field("", description="X-AnyLabeling: one picture; `model` names the supports.")
    params: dict[str, Any] = Field({}, description="X-AnyLabeling: conf_threshold is used.")


_SUPPORTS_SCHEMA = {
    "type": "object",
    "properties": {"images": {"type": "array", "items": GivenSupport.model_json_schema()}},
    "required": ["images"],
}


def router(services: Services) -> APIRouter:
    """The routes below /v1."""
    routes = APIRouter(prefix="/v1")
    _add_supports(routes, services)
    _add_predictions(routes, services)
    return routes


# ------------------------------------------------------------------ supports


def _add_supports(routes: APIRouter, services: Services) -> None:
    registered = services.registered

    @routes.put(
        "/supports/{name}",
        openapi_extra={
            "requestBody": {
                "content": {
                    "application/json": {"schema": _SUPPORTS_SCHEMA},
                    "application/zip": {"schema": {"type": "string", "format": "binary"}},
                }
            }
        },
    )
    async def put_supports(
        name: str,
        request: Request,
        classes: Annotated[list[Text], Query(alias="class", max_length=64)] = [],  # noqa: B006
        layout: Text = "",
    ) -> dict[str, Any]:
        """Register supports: JSON, or a ZIP archive of any layout that `fssplat predict` reads.

        They replace those of the same name, and are kept when the server is started again.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await request.body()
        if kind in ARCHIVES:
            return _set(await in_thread(services.put_archive, name, body, classes, layout))
        if kind != "application/json":
            raise InputError("Content-Type: needed is application/json or application/zip.")
        given = GivenSupports.model_validate_json(body)
        return _set(await in_thread(_register, services, name, given))

    @routes.get("/supports")
    async def list_supports() -> dict[str, Any]:
        """The names of all registered sets."""
        return {"success": True, "supports": await in_thread(registered.names)}

    @routes.get("/supports/{name}")
    async def get_supports(name: str) -> dict[str, Any]:
        """The classes and pictures of a set."""
        return _set(await in_thread(registered.get, name))

    @routes.delete("/supports/{name}")
    async def delete_supports(name: str) -> dict[str, Any]:
        """Delete a set."""
        await in_thread(registered.delete, name)
        return {"success": True}

    @routes.get("/supports/{name}/score")
    async def score_supports(name: str, model: Text = "") -> dict[str, Any]:
        """How well the supports are found by each other: a first estimate of the quality."""
        scores = await services.score(name, model)
        return {"success": True, "scores": {one: score._asdict() for one, score in scores.items()}}


def _register(services: Services, name: str, given: GivenSupports) -> RegisteredSet:
    most = services.settings.limits.supports
    if len(given.images) > most:
        raise InputError(f"{len(given.images)} images; a set has at most {most}.")
    images: list[MarkedImage] = []
    for place, one in enumerate(given.images):
        where = f"images[{place}]"
        masks = {n: from_text(text, f"{where}, mask {n!a}") for n, text in one.masks.items()}
        data = from_text(one.image, where)
        images.append(services.marked(one.name or str(place), data, masks, where))
    return services.registered.put(name, with_unique_names(images))


def _set(found: RegisteredSet) -> dict[str, Any]:
    return {
        "success": True,
        "name": found.name,
        "key": found.key,
        "images": [{"name": one.name, "classes": list(one.masks)} for one in found.images],
        "classes": {name: len(supports) for name, supports in found.classes.items()},
    }


# ------------------------------------------------------------------ predictions


def _add_predictions(routes: APIRouter, services: Services) -> None:
    @routes.post("/predict")
    async def predict(given: GivenQueries) -> dict[str, Any]:
        """Find in pictures what the supports mark."""
        if given.supports:
            return await _predicted(services, given)
        if not given.image:
            raise InputError("supports: missing. Name a set of PUT /v1/supports/NAME.")
        threshold = x_anylabeling.threshold_of(given.params)
        data = [from_text(given.image, "image")]
        ((found, _),) = await services.predict(given.model, data, "", threshold)
        return {"success": True, "data": await in_thread(x_anylabeling.answer, found)}

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """The models of the store; and each set of supports as a model of X-AnyLabeling."""
        store = Store(services.settings.store)
        stored = await in_thread(models_in, store) if store.files.folders() else []
        return {
            "success": True,
            "model": services.network.model.name,
            "models": [
                *(
                    {"name": m.name, "id": m.id, "trained": True, "miou": dict(m.miou or {})}
                    for m in stored
                ),
                *({"name": name, "id": name, "trained": False, "miou": {}} for name in untrained()),
            ],
            "data": await in_thread(_as_models, services),
        }

    @routes.get("/models/{name}/info")
    async def info(name: str) -> dict[str, Any]:
        """A set of supports as X-AnyLabeling describes a model."""
        found = await in_thread(services.registered.get, name)
        about = x_anylabeling.described(found, services.network.model.name)
        return {"success": True, "data": {"model_id": name, **about}}


def _listed(name: str, key: str, miou: dict[int, float], trained: bool = True) -> dict[str, Any]:
    return {"name": name, "id": key, "trained": trained, "miou": miou}


def _as_models(services: Services) -> dict[str, Any]:
    model, described = services.network.model.name, {}
    for name in services.registered.names():
        try:
            described[name] = x_anylabeling.described(services.registered.get(name), model)
        except InputError:
            continue  # a damaged file: its own route says so
    return described


async def _predicted(services: Services, given: GivenQueries) -> dict[str, Any]:
    data = [from_text(text, f"images[{place}]") for place, text in enumerate(given.images)]
    found = await services.predict(given.supports, data, given.model, given.threshold)
    results = [await in_thread(_result, one, given.formats) for one, _ in found]
    classes = list(found[0][0].classes)
    return {"success": True, "supports": given.supports, "classes": classes, "results": results}


def _result(found: Segmented, formats: list[str]) -> dict[str, Any]:
    height, width = found.labels.shape
    area = height * width
    one = Predicted("", Path(), found.labels, found.classes, found.confidence)
    result: dict[str, Any] = {
        "size": [height, width],
        "found": {
            name: {
                "pixels": found.pixels[name],
                "share": round(found.pixels[name] / area, 6),
                "confidence": round(found.confidence[name], 4),
            }
            for name in found.classes
        },
    }
    if "png" in formats:
        result["mask"] = base64.b64encode(png(one)).decode()
    if "rle" in formats:
        result["rle"] = one.runs()
    if "polygons" in formats:
        result["polygons"] = {n: outlines(found.labels == place) for place, n in one.present()}
    return result
