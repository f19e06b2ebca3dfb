"""Starting Ray where the machine is too busy for it."""

from typing import Any

import pytest

from fssplat.common.errors import InputError
from fssplat.launching.cluster import start_here


class SlowRay:
    """Stands for Ray on a machine under load, which no test can bring about at will."""

    def __init__(self, failures: int, message: str) -> None:
        self.failures, self.message = failures, message
        self.calls: list[str] = []

    def init(self, **arguments: Any) -> None:
        self.calls.append("init")
        if self.calls.count("init") <= self.failures:
            raise Exception(self.message)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def test_a_start_of_ray_that_times_out_is_repeated_once() -> None:
    ray = SlowRay(1, "The current node timed out during startup.")
    start_here(ray, address="local")
    assert ray.calls == ["init", "shutdown", "init"]


@pytest.mark.parametrize(
    ("message", "tries"),
    [("The current node timed out during startup.\nmore", 2), ("no space left on device", 1)],
)
def test_a_failed_start_of_ray_is_reported_in_one_line(message: str, tries: int) -> None:
    ray = SlowRay(9, message)
    with pytest.raises(InputError, match="did not start on this machine") as caught:
        start_here(ray, address="local")
    assert ray.calls.count("init") == tries
    assert "\n" not in str(caught.value)
