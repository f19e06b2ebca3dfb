"""The parts of 100 - mIoU, equal to a second computation from the stored files."""

from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow.parquet as pq
import pytest

from fssplat.report.evidence.gather import Evidence
from fssplat.report.sections.episodes.lost import lost_table, not_recorded
from fssplat.results.store import Store
from tests.fakes.report_stores import evidence, finish, report_trial, small_grid, source

PARTS = ("missed", "boundary", "base", "other")


def table_named(report_json: Any, start: str) -> Any:
    (table,) = [
        part for one in report_json["sections"] for part in one["parts"]
        if part["kind"] == "table" and part["name"].startswith(start)
    ]  # fmt: skip
    return table


def rows_of(store: Store, one: Any, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(
        Path(store.address) / one.trial_id({}) / name
    ).to_pylist()
    return rows


def test_the_parts_equal_a_second_computation_and_add_up_to_the_main_table(
    report_store: Store, report_json: Any
) -> None:
    table = table_named(report_json, "lost-")
    assert table["headings"][2:] == [
        "mIoU", "object missed", "boundary", "base-class objects", "other",
    ]  # fmt: skip
    main = {line[0].split()[0]: line[-2] for line in table_named(report_json, "results-")["lines"]}
    lines = {line[0]: line[2:] for line in table["lines"]}
    assert lines["panet"][1:] == ["not recorded"] * 4
    assert lines["panet"][0]["value"] == pytest.approx(main["panet"]["value"])
    for method in ("prior", "hsnet"):
        folds = []
        for one in [one for one in small_grid() if one.method.name == method]:
            rows = rows_of(report_store, one, "details.parquet")
            seeds = []
            for seed in (0, 1):
                of_seed = [row for row in rows if row["seed"] == seed]
                classes = {row["class_id"] for row in of_seed}
                mine = [[r for r in of_seed if r["class_id"] == c] for c in classes]
                seeds.append(
                    [
                        mean(sum(r[part] for r in m) / sum(r["union"] for r in m) for m in mine)
                        for part in PARTS
                    ]
                )
            folds.append([mean(both) for both in zip(*seeds, strict=True)])
        expected = [100 * mean(both) for both in zip(*folds, strict=True)]
        numbers = [cell["value"] for cell in lines[method]]
        assert numbers[1:] == pytest.approx(expected)
        assert sum(numbers) == pytest.approx(100)
        assert numbers[0] == pytest.approx(main[method]["value"])
        assert len(lines[method][1]["trials"]) == 2


def test_the_hint_counts_older_trials_and_names_the_command(report_store: Store) -> None:
    found = Evidence([source(report_store)])
    (hint,) = not_recorded(found)
    assert hint.startswith("4 of 8 trials are older than this record")
    assert "`fssplat rescore small.yaml`" in hint
    nameless = Evidence([source(report_store, command="")])
    assert "`fssplat rescore X.yaml`" in not_recorded(nameless)[0]


def test_a_damaged_record_is_a_problem_and_not_recorded(tmp_path: Path) -> None:
    grid = [report_trial("hsnet", 0)]
    store = Store.open(str(tmp_path / "store"))
    name = finish(store, grid[0], tmp_path)
    path = tmp_path / "store" / name / "details.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + bytes(40))
    found = evidence(store, grid)
    table = lost_table(found.blocks[0], found)
    assert table.lines[0].cells[3] == "not recorded"
    assert any("details.parquet" in problem for problem in found.problems)


def test_an_unfinished_row_has_no_parts(report_store: Store) -> None:
    missing = report_trial("hsnet", 2)
    whole = source(report_store)
    trials = {**whole.trials, missing.trial_id({}): missing}
    found = Evidence([replace(whole, trials=trials, states=report_store.states(trials))])
    names = [line.cells[0] for line in lost_table(found.blocks[0], found).lines]
    assert "hsnet" not in names
