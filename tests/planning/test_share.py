"""One launch of several on one store: its number, its order of jobs, and when it ends."""

import threading
from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.planning import share
from fssplat.planning.share import Share, without_holder
from fssplat.results.store import Store


def test_launches_begin_with_different_jobs_and_know_all() -> None:
    jobs = ["a", "b", "c", "d", "e"]
    orders = [Share(index, 3).order(jobs) for index in range(3)]
    assert orders == [
        ["a", "d", "b", "c", "e"],
        ["b", "e", "a", "c", "d"],
        ["c", "a", "b", "d", "e"],
    ]


def test_many_launches_do_not_start_at_the_same_moment() -> None:
    assert [Share(index, 4).delay_s for index in range(4)] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert Share(999, 1000).delay_s < 30  # and none waits long


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/4", "0/0", "1/4/2"])
def test_a_number_outside_of_the_launches_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a launch of several"):
        Share.parse(text)


def test_the_number_is_read() -> None:
    assert Share.parse("2/16") == Share(2, 16)


def test_jobs_of_live_launches_are_told_from_those_of_dead_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path))
    claim = '{"owner": "%s", "host": "other-machine", "pid": 7, "token": "t", "beat": %d}'

    def beat(number: int) -> None:
        store.files.write("jobs/alive/claim", (claim % ("l1", number)).encode())

    beat(0)
    store.files.write("jobs/dead/claim", (claim % ("l2", 0)).encode())
    monkeypatch.setattr(share, "EXPIRY_S", 0.5)
    monkeypatch.setattr(share, "LOOK_S", 0.05)
    later = threading.Timer(0.2, beat, [1])
    later.start()
    assert without_holder(store, ["alive", "dead", "free"], threading.Event()) == ["free", "dead"]
    later.join()
