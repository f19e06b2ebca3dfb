"""Published rows beside our results, with numbers that can be checked by hand."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from fssplat.experiment.expand import expand
from fssplat.experiment.reading import made_experiment
from fssplat.methods import METHODS
from fssplat.report import published
from fssplat.report.published import PublishedRow
from fssplat.report.terminal.comparison import comparison_table, published_rows_table
from fssplat.results.records import Result


def drawn(row: PublishedRow, scores: dict[int, float], changed: bool = False) -> str:
    """The comparison for our scores by fold, as text."""
    trials = expand(made_experiment(published.experiment(row), None), METHODS)
    named = {str(trial.fold): trial for trial in trials}
    name = published.metric(row)
    results = {str(fold): Result({name: score}) for fold, score in scores.items()}
    console = Console(file=StringIO(), width=160)
    console.print(comparison_table(row, named, results, changed))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def line(text: str, start: str) -> list[str]:
    found = next(item for item in text.splitlines() if item.strip().startswith(start))
    return found.split()[1:]


def test_each_fold_is_in_the_column_of_its_printed_number() -> None:
    row = published.find("HMFS:2:33")
    text = drawn(row, {0: 0.403, 1: 0.457, 2: 0.459, 3: 0.437})
    assert line(text, "printed") == ["39.3", "45.7", "46.9", "43.7", "43.9"]
    assert line(text, "ours") == ["40.3", "45.7", "45.9", "43.7", "43.9"]
    assert line(text, "difference") == ["+1.0", "+0.0", "-1.0", "+0.0", "+0.0"]
    assert "under protocol hsnet" in text


def test_without_a_fold_there_is_no_mean() -> None:
    text = drawn(published.find("HMFS:2:33"), {0: 0.403})
    assert line(text, "ours") == ["40.3", "-", "-", "-", "-"]
    assert line(text, "difference") == ["+1.0", "-", "-", "-", "-"]


def test_doubtful_rows_and_other_settings_are_remarked() -> None:
    doubtful = next(row for row in published.rows() if row.doubtful and row.paper == "HMFS")
    doubtful = replace(doubtful, method="HMFS", variant="")
    assert "Doubtful as printed: " in drawn(doubtful, {})
    assert "other settings" in drawn(published.find("HMFS:2:33"), {}, changed=True)
    assert "other settings" not in drawn(published.find("HMFS:2:33"), {})


def test_a_row_scored_at_473_is_compared_with_our_score_at_473() -> None:
    rows = [row for row in published.rows() if "dagger" in row.variant and not row.quoted]
    assert rows
    assert {published.metric(row) for row in rows} == {"miou_473"}


def test_the_list_says_why_a_row_cannot_be_run() -> None:
    console = Console(file=StringIO(), width=250)
    console.print(published_rows_table(published.matching("JC2A:1")))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "not run: no method here is 'PGNet'" in text
    assert "JC2A:1:" in text
    assert "JC2A:2:" not in text


@pytest.mark.parametrize("name", ["HMFS:1:47", "SD-AANet:V:2"])
def test_every_listed_row_without_a_reason_expands(name: str) -> None:
    row = published.find(name)
    assert published.why_not_run(row) == ""
    assert expand(made_experiment(published.experiment(row), None), METHODS)
