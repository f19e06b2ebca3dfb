"""Label Studio's protocol for machine learning backends: /setup /predict /webhook.

Every project has a set of supports, label-studio-PROJECT. An annotation that is made or changed in
the project becomes a support of it, and one that is deleted is removed.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from fssplat.common.errors import InputError, described
from fssplat.common.printing import complain
from fssplat.data.readers.label_studio import parts_of, regions_of
from fssplat.data.readers.record import Shapes
from fssplat.data.readers.shapes import brush_runs
from fssplat.data.transforms import Pixels
from fssplat.engine.predicting.prepared import Segmented
from fssplat.serving.outputs.outlines import outlines
from fssplat.serving.server import pictures
from fssplat.serving.server.protocols.label_studio_config import Labelling, labelling_in
from fssplat.serving.server.protocols.label_studio_files import TaskFiles
from fssplat.serving.server.registered import MarkedImage
from fssplat.serving.server.services import Services, in_thread

MADE = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
DELETED = "ANNOTATIONS_DELETED"
MOST_TASKS = 256


class Body(BaseModel):
    """JSON of Label Studio: fields that are not used are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Setup(Body):
    """A project that was connected to this server."""

    project: Annotated[str, Field(max_length=100)] = ""
    access_token: Annotated[str, Field(max_length=4000)] | None = ""


class Tasks(Body):
    """Tasks to predict."""

    tasks: list[dict[str, Any]] = Field(max_length=MOST_TASKS)
    project: Annotated[str, Field(max_length=100)] | None = ""
    label_config: str = ""


class Event(Body):
    """Something that happened in a project."""

    action: str
    annotation: dict[str, Any] = {}
    annotations: list[dict[str, Any]] = []
    task: dict[str, Any] = {}
    project: dict[str, Any] = {}


def router(services: Services) -> APIRouter:
    """The routes of the protocol; /health is the server's own."""
    routes = APIRouter(tags=["Label Studio"])
    files = TaskFiles(services.settings)
    running: set[asyncio.Task[None]] = set()

    @routes.post("/setup")
    async def setup(given: Setup) -> dict[str, Any]:
        """Label Studio connects a project."""
        files.take_key(given.access_token or "")
        return {"model_version": await in_thread(_version, services, set_name(given.project))}

    @routes.post("/predict")
    async def predict(given: Tasks) -> dict[str, Any]:
        """Predict the tasks of a project by its annotations."""
        name = set_name(given.project or "")
        results = await _predictions(services, files, name, given)
        version = await in_thread(_version, services, name)
        return {"results": [{**one, "model_version": version} for one in results]}

    @routes.post("/webhook", status_code=201)
    async def webhook(given: Event) -> dict[str, Any]:
        """Label Studio reports an event. It waits one second; what follows may take longer."""
        task = asyncio.create_task(_after(services, files, given))
        running.add(task)
        task.add_done_callback(running.discard)
        return {"success": True}

    return routes


def set_name(project: str) -> str:
    """The name of a project's supports. Raises InputError; `1.1699999999` is project 1."""
    number = project.partition(".")[0]
    if not (number.isascii() and number.isdecimal()) or len(number) > 12:
        raise InputError(f"project {ascii(project)[:60]}: needed is the number of a project.")
    return f"label-studio-{number}"


def _version(services: Services, name: str) -> str:
    """Changes with the supports, so that Label Studio asks again."""
    model = services.network.model.name
    known = name in services.registered.names()
    return f"{model} {services.registered.get(name).key[:8]}" if known else f"{model} no supports"


# ------------------------------------------------------------------ annotations become supports


async def _after(services: Services, files: TaskFiles, event: Event) -> None:
    try:
        await in_thread(take_event, services, files, event)
    except Exception as error:  # nobody waits for it: it is printed
        shown = str(error) if isinstance(error, InputError) else described(error)
        complain(f"Label Studio, {event.action[:40]}: {shown}")


def take_event(services: Services, files: TaskFiles, event: Event) -> None:
    """Add, replace or remove the support of an annotation. Raises InputError."""
    registered = services.registered
    if event.action not in (*MADE, DELETED):
        return
    name = set_name(str(event.project.get("id", "")))
    known = registered.get(name).images if name in registered.names() else ()
    if event.action == DELETED:
        endings = tuple(f"-annotation-{one.get('id')}" for one in event.annotations)
        for old in (one.name for one in known if endings and one.name.endswith(endings)):
            registered.remove(name, old)
        return
    task = f"task-{event.task.get('id')}-"
    image = _support(services, files, event, f"{task}annotation-{event.annotation.get('id')}")
    for old in (one.name for one in known if one.name.startswith(task)):
        if image is None or old != image.name:
            registered.remove(name, old)
    if image is not None:
        registered.add(name, image)


def _support(services: Services, files: TaskFiles, event: Event, name: str) -> MarkedImage | None:
    """The picture of an annotation with its masks; None if nothing is marked in it."""
    where = f"task {event.task.get('id')}"
    try:
        regions = list(regions_of({"annotations": [event.annotation]}))
        if not regions:
            return None
        parts, size = parts_of(regions, where)
        address = picture_address(event.task["data"], "")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{where}: {str(error)[:120]} is missing or wrong.") from error
    limits = services.settings.limits
    data = files.fetch(address, where)
    with services.memory.held(pictures.pixels_in(data, where, limits)):
        picture = pictures.decoded(data, where, limits)
        if size not in (picture.size, picture.stored_size):
            raise InputError(f"{where}: it was annotated at another size than the picture has.")
        masks = Shapes(where, (), size, parts).masks(*size)
        if size != picture.size:
            masks = {one: picture.turn(mask) for one, mask in masks.items()}
        marked = {one: mask for one, mask in masks.items() if (mask == 1).any()}
        return MarkedImage(name, picture.pixels, marked) if marked else None


def picture_address(data: Mapping[str, Any], field: str) -> str:
    """The address of a task's picture: `field` of its data, or the first text that is an address.

    Raises ValueError if there is none.
    """
    found = data.get(field) if field else next(
        (v for v in data.values() if isinstance(v, str) and ("/" in v or v.startswith("data:"))), ""
    )  # fmt: skip
    if not isinstance(found, str) or not found:
        raise ValueError(f"the picture ({field or 'an address'}) in the task's data")
    return found


# ------------------------------------------------------------------ predictions


async def _predictions(
    services: Services, files: TaskFiles, name: str, given: Tasks
) -> list[dict[str, Any]]:
    """A prediction for each task; an empty one as long as nothing is annotated."""
    nothing = {"result": [], "score": 0.0}
    if not given.tasks or name not in await in_thread(services.registered.names):
        return [nothing for _ in given.tasks]
    labelling = labelling_in(given.label_config)
    results = []
    for task in given.tasks:
        where = f"task {str(task.get('id', ''))[:20]}"
        try:
            address = picture_address(task.get("data", {}), labelling.field)
        except (ValueError, AttributeError) as error:
            raise InputError(f"{where}: {error} is missing or wrong.") from error
        data = await in_thread(files.fetch, address, where)
        ((found, pixels),) = await services.predict(name, [data])
        results.append(await in_thread(regions, found, pixels, labelling))
    return results


def regions(found: Segmented, pixels: Pixels, labelling: Labelling) -> dict[str, Any]:
    """What was found as Label Studio has it: a brush mask per class, or polygons."""
    height, width = pixels.shape[:2]
    result: list[dict[str, Any]] = []
    scores = []
    for place, name in enumerate(found.classes, start=1):
        if not found.pixels[name] or name not in labelling.labels:
            continue
        scores.append(found.confidence[name])
        for value in _values(found, place, labelling, (height, width)):
            result.append(
                {
                    "id": uuid.uuid4().hex[:10],
                    "from_name": labelling.control,
                    "to_name": labelling.picture,
                    "type": labelling.kind,
                    "value": {**value, labelling.kind: [name]},
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "score": round(found.confidence[name], 4),
                }
            )
    return {"result": result, "score": round(min(scores, default=0.0), 4)}


def _values(
    found: Segmented, place: int, labelling: Labelling, size: tuple[int, int]
) -> Sequence[dict[str, Any]]:
    inside = found.labels == place
    if labelling.kind == "brushlabels":
        return [{"format": "rle", "rle": brush_runs.encode(inside)}]
    return [
        {
            "points": [[100 * x / size[1], 100 * y / size[0]] for x, y in outline],
            "closed": True,
        }
        for outline in outlines(inside)
    ]
