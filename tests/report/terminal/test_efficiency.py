"""The cost tables, with numbers that can be checked by hand."""

from io import StringIO

from rich.console import Console

from fssplat.common.printing import Screen
from fssplat.report.terminal.efficiency import Times, cost_tables
from fssplat.results.records import Result, ShotTime, Timing
from tests.fakes.trials import trial

TRIALS = {
    "a0": trial(fold=0, method="panet"),
    "a1": trial(fold=1, method="panet"),
    "a5": trial(shot=5, method="panet"),
    "b": trial(method="pfenet"),
    "c": trial(method="a-method-with-a-very-long-name"),
}


def timing(one: float, five: float, hardware: str = "H200", busy: float = 0.0) -> Timing:
    shots = {
        1: ShotTime(one, one - 1, one + 1, 20, 150_000_000),
        5: ShotTime(five, five - 1, five + 1, 20, 0),
    }
    counts = {"learnable_parameters": 2e6, "test_parameters": 3e6, "total_parameters": 4.5e6}
    return Timing(hardware, shots, counts, busy)


def printed(times: Times, results: dict[str, Result] | None = None, width: int = 120) -> str:
    out = StringIO()
    screen: Console = Screen(file=out, width=width)
    screen.print(cost_tables(TRIALS, results or {}, times))
    return out.getvalue()


def rows_of(text: str, *methods: str) -> list[list[str]]:
    return [
        line.split() for line in text.splitlines() if line.split()[:1] in [[m] for m in methods]
    ]


def test_speed_is_the_first_rows_time_divided_by_the_rows_own() -> None:
    times = {"H200": {"a0": timing(20.0, 100.0), "b": timing(40.0, 250.0)}}
    lines = [line.split() for line in printed(times).splitlines()]
    found = [words for words in lines if words and words[-1] in ("150", "-") and len(words) > 4]
    assert found[0] == ["panet", "2.00", "3.00", "4.50", "1", "20.0", "19.0-21.0", "1.00", "150"]
    assert found[1] == ["5", "100", "99.0-101", "0.20", "-"]
    assert found[2] == ["pfenet", "2.00", "3.00", "4.50", "1", "40.0", "39.0-41.0", "0.50", "150"]
    assert found[3] == ["5", "250", "249-251", "0.08", "-"]
    assert "one episode at a time on H200" in printed(times)


def test_each_hardware_has_a_table_of_its_own() -> None:
    text = printed({"H200": {"a0": timing(20, 90)}, "CPU x": {"a0": timing(2000, 9000, "CPU x")}})
    assert text.index("on H200") < text.index("on CPU x")
    assert [row[7] for row in rows_of(text, "panet")] == ["1.00", "1.00"]


def test_without_times_the_table_has_the_parameters_of_finished_trials() -> None:
    metrics = {"learnable_parameters": 1e6, "test_parameters": 2e6, "episodes_per_s": 7.0}
    text = printed({}, {"a1": Result(metrics)})
    assert rows_of(text, "panet", "pfenet") == [
        ["panet", "1.00", "2.00", "-"],
        ["pfenet", "-", "-", "-"],
    ]
    assert "7.0" not in text  # the speed of a packed evaluation is no time of an episode


def test_a_time_that_was_measured_beside_other_work_is_marked() -> None:
    assert "--again" not in printed({"H200": {"a0": timing(20, 90, busy=0.4)}})
    assert "2.5 processes per core" in printed({"H200": {"a0": timing(20, 90, busy=2.5)}})


def test_the_table_fits_80_columns() -> None:
    times = {"H200": {name: timing(20.0, 1000.0) for name in TRIALS}}
    assert max(map(len, printed(times, width=80).splitlines())) <= 80
