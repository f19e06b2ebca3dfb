"""The cost table, with numbers that can be checked by hand."""

from io import StringIO

from rich.console import Console

from fssplat.report.terminal.efficiency import cost_table
from fssplat.results.records import Result
from tests.fakes.trials import trial


def cost(speed: float, parameters: float = 2e6) -> Result:
    return Result({"episodes_per_s": speed, "learnable_parameters": parameters})


def test_speed_is_a_ratio_to_the_first_row_and_folds_are_averaged() -> None:
    trials = {
        "a0": trial(fold=0, method="panet"),
        "a1": trial(fold=1, method="panet"),
        "b": trial(shot=5, method="panet"),
        "c": trial(method="pfenet"),
        "d": trial(method="hsnet"),
    }
    results = {"a0": cost(3.0), "a1": cost(5.0), "b": cost(1.0), "c": cost(8.0, 1.5e6)}
    out = StringIO()
    Console(file=out, width=120).print(cost_table(trials, results))
    rows = [line.split() for line in out.getvalue().splitlines() if "synthetic" in line]
    assert [row[2:4] + row[-2:] for row in rows] == [
        ["panet", "1", "4.00", "1.00"],
        ["panet", "5", "1.00", "0.25"],
        ["pfenet", "1", "8.00", "2.00"],
    ]
    assert rows[2][4] == "1.50"  # millions of learnable parameters
