"""What every route of a server uses."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from fssplat.common.errors import InputError
from fssplat.data.readers.class_choice import parsed_choice
from fssplat.data.transforms import Pixels
from fssplat.engine.predicting.prepared import HALF, Segmented
from fssplat.serving.self_check import SelfScore
from fssplat.serving.server import pictures
from fssplat.serving.server.metrics import Metrics
from fssplat.serving.server.network import NetworkThread
from fssplat.serving.server.pictures import Memory
from fssplat.serving.server.registered import (
    MarkedImage,
    RegisteredSet,
    RegisteredSupports,
    images_of,
)
from fssplat.serving.server.settings import ServerSettings
from fssplat.serving.supports import read_supports

T = TypeVar("T")


class Services:
    """The network, the registered supports, and the counters."""

    def __init__(self, settings: ServerSettings) -> None:
        """Open the model and the folder of supports. Raises InputError."""
        self.settings = settings
        self.metrics = Metrics()
        self.registered = RegisteredSupports(settings.folder, settings.limits)
        self.network = NetworkThread(settings, self.metrics)
        self.memory = Memory(settings.limits)

    async def predict(
        self, supports: str, images: Sequence[bytes], model: str = "", threshold: float = HALF
    ) -> list[tuple[Segmented, Pixels]]:
        """What is found in each picture, and its pixels. Raises InputError."""
        limits = self.settings.limits
        if not 0 < len(images) <= limits.pictures:
            raise InputError(f"{len(images)} images; a request has 1 to {limits.pictures}.")
        names = [f"images[{place}]" for place in range(len(images))]
        given = list(zip(images, names, strict=True))
        sizes = [pictures.pixels_in(data, name, limits) for data, name in given]
        with self.memory.held(sum(sizes)):
            found = await in_thread(self.registered.get, supports)
            decoded = await in_thread(
                lambda: [pictures.decoded(data, name, limits).pixels for data, name in given]
            )
            answers = await asyncio.wrap_future(
                self.network.predict(found, decoded, model, threshold)
            )
        return list(zip(answers, decoded, strict=True))

    async def score(self, supports: str, model: str = "") -> dict[str, SelfScore]:
        """How well the supports of a set are found by each other. Raises InputError."""
        found = await in_thread(self.registered.get, supports)
        return await asyncio.wrap_future(self.network.score(found, model))

    def marked(self, name: str, image: bytes, masks: dict[str, bytes], where: str) -> MarkedImage:
        """A picture with masks as a request has them. Raises InputError."""
        limits = self.settings.limits
        with self.memory.held(pictures.pixels_in(image, where, limits) * (1 + len(masks))):
            picture = pictures.decoded(image, where, limits)
            labels = {
                one: pictures.decoded_mask(data, picture, f"{where}, mask {one!a}", limits)
                for one, data in masks.items()
            }
        return MarkedImage(name, picture.pixels, labels)

    def put_archive(
        self, name: str, data: bytes, classes: Sequence[str], layout: str
    ) -> RegisteredSet:
        """Register what a ZIP archive of any layout has. Raises InputError."""
        limits = self.settings.limits
        with tempfile.TemporaryDirectory(prefix="fssplat-supports-") as scratch:
            folder = Path(scratch)
            pictures.unpacked(data, folder, limits)
            try:
                _check_pictures(folder, self)
                entries = [one for one in folder.iterdir() if not one.name.startswith("__")]
                root = entries[0] if len(entries) == 1 else folder  # one folder, or one file
                given = read_supports(root, parsed_choice(classes), layout, within=folder)
            except InputError as error:
                raise InputError(
                    str(error).replace(f"{scratch}/", "").replace(scratch, name)
                ) from error
            return self.registered.put(name, images_of(given))


def _check_pictures(folder: Path, services: Services) -> None:
    """Raises InputError for a picture with too many pixels, before any is decoded."""
    from fssplat.data.readers.pictures import pictures_in

    for path in pictures_in(folder, deep=True):
        try:
            pictures.pixels_in(path.read_bytes(), str(path), services.settings.limits)
        except InputError as error:
            if "pixels" in str(error):
                raise


async def in_thread(work: Callable[..., T], *given: object) -> T:
    """Run what would block the server in another thread."""
    return await asyncio.to_thread(work, *given)
