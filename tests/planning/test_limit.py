"""How many slots finish a plan within a time limit."""

from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.launching.launch import Request, plan_from
from fssplat.planning.limit import Need, lead_s, limit_line, need, parse_limit
from fssplat.planning.packing import PlannedJob
from fssplat.planning.plan import Plan
from tests.fakes.experiment_files import experiment_without_images

HOUR = 3600.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4h", 4 * HOUR),
        ("90m", 1.5 * HOUR),
        ("90min", 1.5 * HOUR),
        ("1.5d", 36 * HOUR),
        ("04:00:00", 4 * HOUR),
        ("30:00", 0.5 * HOUR),  # minutes and seconds
        ("1-12:00", 36 * HOUR),  # days, hours, minutes
        ("1-12:00:00", 36 * HOUR),
    ],
)
def test_a_limit_is_read_as_people_and_slurm_write_it(text: str, seconds: float) -> None:
    assert parse_limit(text) == seconds


@pytest.mark.parametrize("text", ["4", "", "4 h", "-4h", "1h30", "30s", "0h", "4:0"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a time limit"):
        parse_limit(text)


def plan_of(folder: Path, *hours: float, gpu: float = 1.0) -> Plan:
    """A plan whose pending jobs take these times."""
    from dataclasses import replace

    plan, _ = plan_from(Request(experiment_without_images(folder)))
    job = plan.pending[0].job
    pending = tuple(PlannedJob(job, 1.0, one * HOUR, True, gpu, 1.0) for one in hours)
    return replace(plan, pending=pending)


def test_the_fewest_slots_that_are_enough(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 2, 2, 2, 1, 1, 1)  # 9 hours
    limit = 3 * HOUR + 300  # 300 s are kept for the checkpoints
    assert lead_s(limit) == 300
    assert need(plan, limit) == Need(slots=3, rounds=1, ends_s=3 * HOUR)
    assert limit_line(plan, limit).endswith(": 3 GPUs; the last job ends after 3 h 0 min.")
    assert need(plan, 2 * HOUR + 300).slots == 5  # 9 / 2 = 4.5
    assert need(plan, 24 * HOUR).slots == 1


def test_a_job_that_is_longer_than_the_limit_takes_several(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 5, 1)
    limit = 2 * HOUR + 300
    assert need(plan, limit) == Need(slots=1, rounds=3, ends_s=6 * HOUR)
    assert limit_line(plan, limit).endswith("1 GPU finish all jobs within 3 limits in a row.")


def test_a_job_of_two_gpus_needs_two_slots(tmp_path: Path) -> None:
    assert need(plan_of(tmp_path, 1, 1, gpu=2.0), 24 * HOUR).slots == 2


def test_jobs_that_share_a_gpu_need_fewer(tmp_path: Path) -> None:
    assert need(plan_of(tmp_path, 1, 1, 1, 1, gpu=0.25), HOUR + 300).slots == 1


def test_a_finished_plan_needs_no_slot(tmp_path: Path) -> None:
    assert "no slot is needed" in limit_line(plan_of(tmp_path), HOUR)
