"""One of several launches that were started together on one store, without a network between them.

Claims alone would share the work. A launch that knows its number also begins with other jobs than
the rest, reads the store at another moment, and ends when the others run all that is left.
"""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from fssplat.common.errors import InputError
from fssplat.results.claims import EXPIRY_S
from fssplat.results.store import Store

APART_S = 0.2  # between the starts of two launches
LAST_START_S = 30.0  # the last of many starts this much later than the first, at most
LOOK_S = 2.0  # between two looks at the claims of other launches

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """This is launch `index` (from 0) of `count`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "2/16". Raises InputError."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        share = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not share.index < share.count:
            raise InputError(
                f"--share {text}: not a launch of several. Give its number, from 0, and how many "
                "they are: --share 0/4 for the first of four."
            )
        return share

    @property
    def delay_s(self) -> float:
        """How long this launch waits before it reads the store."""
        return min(APART_S * self.count, LAST_START_S) * self.index / self.count

    def order(self, items: Sequence[Item]) -> list[Item]:
        """The items with those of this launch first, each `count`-th; the order is kept in both."""
        own = items[self.index :: self.count]
        others = [one for number, one in enumerate(items) if number % self.count != self.index]
        return [*own, *others]


def without_holder(store: Store, keys: Sequence[str], stop: threading.Event) -> list[str]:
    """Those of these jobs that no live launch holds, known after at most EXPIRY_S.

    The claim of a live holder changes, see `results.claims`. All claims are watched together.
    """
    seen = {key: store.job_claim(key) for key in keys if store.job_held(key)}
    left = [key for key in keys if key not in seen]
    end = time.monotonic() + EXPIRY_S
    while seen and time.monotonic() < end and not stop.wait(LOOK_S):
        now = {key: store.job_claim(key) for key in seen}
        left += [key for key, claim in now.items() if claim is None]
        seen = {key: claim for key, claim in now.items() if claim == seen[key] and claim}
    return [*left, *seen]
