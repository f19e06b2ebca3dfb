"""The speed of a job is that of the last seconds."""

import pytest

from fssplat.worker.speed import Speed


def test_bursts_of_steps_give_the_true_speed_and_old_work_is_forgotten() -> None:
    now = [0.0]
    speed = Speed(100, lambda: now[0])
    assert speed.per_s(100) == 0.0
    count = 100
    for _ in range(10):  # fifty steps are reported every two seconds
        now[0] += 2
        for _ in range(50):
            count += 1
            value = speed.per_s(count)
    assert value == pytest.approx(25)
    for _ in range(10):
        now[0] += 20
        for _ in range(50):
            count += 1
            value = speed.per_s(count)
    assert value == pytest.approx(2.5)
