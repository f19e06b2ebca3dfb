"""Times of episodes in a report: those of `fssplat time`, never the speed of an evaluation."""

from dataclasses import replace
from pathlib import Path

import pytest

from fssplat.report.document.content import Value
from fssplat.report.evidence.gather import Evidence
from fssplat.report.evidence.timings import times_of_sources, timing_key
from fssplat.report.sections.cost import about_times, cost, cost_table, pareto
from fssplat.report.sections.pairs import key_of
from fssplat.results.records import ShotTime, Timing
from fssplat.results.store import Store
from tests.fakes.report_stores import report_trial, small_grid, small_store, source

HARDWARE = "H<200> & co"


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """prior and hsnet are timed on one kind of hardware, hsnet on another one too."""
    folder = tmp_path_factory.mktemp("timed")
    store = small_store(folder)
    for method, ms, hardware in (
        ("prior", 5.0, HARDWARE), ("hsnet", 20.0, HARDWARE), ("hsnet", 300.0, "CPU"),
    ):  # fmt: skip
        shots = {1: ShotTime(ms, ms - 1, ms + 2, 20, 10**9), 5: ShotTime(5 * ms, 0, 0, 20, 1)}
        busy = 0.9 if hardware == "CPU" else 0.0
        store.record_timing(timing_key(report_trial(method, 0)), Timing(hardware, shots, {}, busy))
    return Evidence([source(store)])


def test_the_table_has_the_stored_times_of_its_shots_under_their_hardware(timed: Evidence) -> None:
    (block,) = timed.blocks
    table = cost_table(block, times_of_sources(timed.sources))
    names = [heading.text for heading in table.headings]
    columns = [i for i, name in enumerate(names) if name.startswith("ms an episode")]
    assert [names[i] for i in columns] == ["ms an episode, CPU", f"ms an episode, {HARDWARE}"]
    shown = {line.cells[0]: [line.cells[i] for i in columns] for line in table.lines}
    cells = {name: [one.number for one in both if isinstance(one, Value)]
             for name, both in shown.items()}  # fmt: skip
    assert cells == {"prior": [None, 5.0], "panet": [None, None], "hsnet": [300.0, 20.0]}
    last = shown["hsnet"][1]
    assert isinstance(last, Value)
    assert last.interval == (19.0, 22.0)


def test_the_figure_is_of_the_hardware_that_most_rows_were_timed_on(timed: Evidence) -> None:
    (block,) = timed.blocks
    figure = pareto(block, times_of_sources(timed.sources))
    assert f"on {HARDWARE}" in figure.caption
    means = {key_of(row)[0]: row.mean(block.folds) for row in block.rows}
    found = [
        (line.cells[0], *(cell.number for cell in line.cells[1:] if isinstance(cell, Value)))
        for line in figure.data.lines
    ]
    assert found == [("prior", 5.0, means["prior"]), ("hsnet", 20.0, means["hsnet"])]


def test_what_is_not_timed_and_what_is_doubtful_is_said(timed: Evidence) -> None:
    lines = about_times(timed, times_of_sources(timed.sources))
    assert lines[0].startswith("The time of an episode is not measured for 4 of 8 trials")
    assert "`fssplat time small.yaml`" in lines[0]
    assert lines[1].startswith("CPU: 0.9 processes per core")
    assert len(lines) == 2


def test_the_speed_of_an_evaluation_is_no_time_of_an_episode(report_store: Store) -> None:
    found = Evidence([source(report_store)])
    (block,) = found.blocks
    assert all(cell.result.metrics["episodes_per_s"] for row in block.rows for cell in row.cells)
    table = cost_table(block, {})
    assert not any("ms" in heading.text.split() for heading in table.headings)
    section = cost(found)
    assert section is not None
    assert not any(getattr(part, "name", "").startswith("pareto") for part in section.parts)


def test_timings_of_other_settings_do_not_count(tmp_path: Path) -> None:
    grid = small_grid()[:2]
    store = small_store(tmp_path, grid)
    other = grid[0].model_copy(update={"way": 2})
    store.record_timing(timing_key(other), Timing("CPU", {1: ShotTime(1, 1, 1, 1, 1)}, {}))
    assert times_of_sources([replace(source(store, grid))]) == {}
