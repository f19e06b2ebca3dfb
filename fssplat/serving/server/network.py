"""The one thread that uses the network. Requests that wait for it are run together.

One model is in memory, with the encoded supports of the last few sets.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from fssplat.common.errors import InputError
from fssplat.data.transforms import Pixels
from fssplat.engine.device import return_memory
from fssplat.engine.predicting.prepared import HALF, PreparedSupports, Segmented
from fssplat.methods import METHODS
from fssplat.results.store import Store
from fssplat.serving.models.catalogue import find_model
from fssplat.serving.models.opening import Model, load_model
from fssplat.serving.self_check import SelfScore, self_scores
from fssplat.serving.server.metrics import Metrics
from fssplat.serving.server.refusals import busy, not_found
from fssplat.serving.server.registered import RegisteredSet
from fssplat.serving.server.settings import ServerSettings

PREPARED = 4  # sets whose supports stay encoded
MOST_WAITING = 256  # requests


@dataclass(eq=False)
class Waiting:
    """A request for the network."""

    model: str
    supports: RegisteredSet
    threshold: float
    pictures: Sequence[Pixels]  # none: the score of the supports is asked
    answer: "Future[Any]" = field(default_factory=Future)

    @property
    def group(self) -> tuple[str, str, str, float, bool]:
        """Requests of one group can share a pass."""
        alone = not self.pictures
        return self.model, self.supports.name, self.supports.key, self.threshold, alone


class NetworkThread:
    """Answers requests one group after the other, in the order in which they came."""

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        """Open the model. Raises InputError if that is impossible."""
        self.settings, self.metrics = settings, metrics
        self.model = load_model(settings.model, settings.store, settings.backbone)
        self._asked = settings.model  # the name of the model in memory, as it was asked for
        self._prepared: OrderedDict[tuple[str, str], PreparedSupports] = OrderedDict()
        self._queue: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after the request that is being computed."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def predict(
        self, supports: RegisteredSet, pictures: Sequence[Pixels], model: str = "",
        threshold: float = HALF,
    ) -> "Future[list[Segmented]]":  # fmt: skip
        """What is found in each picture. Raises RefusedError if too many requests wait."""
        return self._add(Waiting(model or self.settings.model, supports, threshold, pictures))

    def score(self, supports: RegisteredSet, model: str = "") -> "Future[dict[str, SelfScore]]":
        """How well the supports are found by each other. Raises as `predict` does."""
        return self._add(Waiting(model or self.settings.model, supports, HALF, ()))

    # ------------------------------------------------------------------ in the thread

    def _add(self, one: Waiting) -> "Future[Any]":
        with self._changed:
            if len(self._queue) >= MOST_WAITING:
                raise busy(f"{MOST_WAITING} requests wait for the network")
            self._queue.append(one)
            self.metrics.waiting = len(self._queue)
            self._changed.notify()
        return one.answer

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._ended:
                    self._changed.wait()
                if self._ended:
                    for one in self._queue:
                        one.answer.set_exception(busy("the server is being stopped"))
                    return
                group = self._next_group()
                self.metrics.waiting = len(self._queue)
            self._answer([one for one in group if one.answer.set_running_or_notify_cancel()])

    def _next_group(self) -> list[Waiting]:
        """The first request, and those behind it that can share its pass."""
        first = self._queue.popleft()
        group, pictures = [first], len(first.pictures)
        for one in [one for one in self._queue if one.group == first.group]:
            pictures += len(one.pictures)
            if pictures > self.settings.limits.together:
                break
            self._queue.remove(one)
            group.append(one)
        return group

    def _answer(self, group: Sequence[Waiting]) -> None:
        if not group:
            return
        try:
            answers = self._computed(group)
        except Exception as error:  # one request must not end the thread that serves all
            for one in group:
                one.answer.set_exception(error)
            return
        for one, answer in zip(group, answers, strict=True):
            one.answer.set_result(answer)

    def _computed(self, group: Sequence[Waiting]) -> list[Any]:
        first = group[0]
        supports = self._supports(first.model, first.supports).at(first.threshold)
        if not first.pictures:
            return [dict(self_scores(supports)) for _ in group]
        pictures = [pixels for one in group for pixels in one.pictures]
        found = []
        most = self.settings.limits.together
        for start in range(0, len(pictures), most):
            queries = [supports.query(pixels) for pixels in pictures[start : start + most]]
            found += supports.segment_all(queries)
            self.metrics.predicted(len(queries))
        answers, start = [], 0
        for one in group:
            answers.append(found[start : start + len(one.pictures)])
            start += len(one.pictures)
        return answers

    def _supports(self, model: str, supports: RegisteredSet) -> PreparedSupports:
        """The encoded supports, from memory if they are there."""
        if model != self._asked:
            self._open(model)
        key = (supports.name, supports.key)
        if key not in self._prepared:
            while len(self._prepared) >= PREPARED:
                self._prepared.popitem(last=False)
            self._prepared[key] = PreparedSupports(self.model.predictor, supports.classes)
        self._prepared.move_to_end(key)
        return self._prepared[key]

    def _open(self, name: str) -> None:
        """Replace the model in memory. Raises RefusedError for a name that is not in the list."""
        settings = self.settings
        if name == settings.model:
            opened = load_model(name, settings.store, settings.backbone)
        else:
            opened = listed_model(name, settings)
        self._prepared.clear()
        self.model, self._asked = opened, name
        return_memory()


def listed_model(name: str, settings: ServerSettings) -> Model:
    """A model of the store, or a method without training: a client may not name files.

    Raises RefusedError for any other name.
    """
    if name in METHODS and not METHODS[name].TRAINED:
        return load_model(name, settings.store)
    try:
        found = find_model(Store(settings.store), name)
    except InputError as error:
        raise not_found(str(error)) from error
    return load_model(found.name, settings.store)
