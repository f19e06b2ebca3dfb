"""What a report says of trials that are missing, damaged or of other experiments."""

import json
import shutil
from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.report.evidence.gather import Evidence
from fssplat.report.sections.all import document
from fssplat.report.writing.files import write_report
from fssplat.report.writing.markdown import markdown
from fssplat.results.store import Store
from tests.fakes.damages import damage_with
from tests.fakes.report_stores import evidence, report_trial, small_grid, source


def copied(store: Store, folder: Path) -> Store:
    shutil.copytree(store.address, folder / "store")
    return Store(str(folder / "store"))


def ids(*methods: str) -> list[str]:
    return [one.trial_id({}) for one in small_grid() if one.method.name in methods]


@pytest.mark.parametrize("kind", ["empty", "cut", "folder", "read error", "pipe"])
def test_damaged_episodes_are_named_and_their_row_is_in_no_comparison(
    report_store: Store, tmp_path: Path, kind: str
) -> None:
    store = copied(report_store, tmp_path)
    (first, _) = ids("hsnet")
    path = tmp_path / "store" / first / "episodes.parquet"
    whole = path.read_bytes()
    found = evidence(store)
    assert len(found.results) == 8
    damage_with(path, kind, whole)
    text = markdown(document(found))
    assert "hsnet resnet50" in text.split("Damaged or different")[1].split("\n\n")[1]
    assert "hsnet, resnet50 is in no comparison: its episodes cannot be read" in text
    assert "panet has the best mean" not in text  # the numbers of hsnet are whole


def test_changed_episodes_of_the_same_size_are_not_used(
    report_store: Store, tmp_path: Path
) -> None:
    store = copied(report_store, tmp_path)
    one, other = ids("hsnet")
    a, b = (tmp_path / "store" / name / "episodes.parquet" for name in (one, other))
    content = a.read_bytes()
    a.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    assert b.is_file()
    found = evidence(store)
    assert found.counts(one) is None
    assert "is not as it was written" in found.problems[0]


def test_unfinished_trials_are_named_and_their_row_has_no_mean(
    report_store: Store, tmp_path: Path
) -> None:
    store = copied(report_store, tmp_path)
    one, other = ids("hsnet")
    store.delete_trial(one)
    store.mark([one], "failed", "class a has 1 image")
    (tmp_path / "store" / other / "result.json").write_text("{")
    text = markdown(document(evidence(store)))
    assert "fold 0 1-shot hsnet resnet50: failed: class a has 1 image" in text
    assert r"fold 1 1-shot hsnet resnet50: pending: its result.json is not valid JSON" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| hsnet")][:1]
    assert row.count("–") >= 4
    assert "Not finished, so without a mean: hsnet" in text


def test_results_of_other_experiments_are_counted(report_store: Store) -> None:
    some = [one for one in small_grid() if one.method.name != "hsnet"]
    text = markdown(document(evidence(report_store, some)))
    assert "The store has 2 other trials" in text


def test_a_store_without_any_result_is_an_error(report_store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trial has a result in store") as caught:
        evidence(Store(str(tmp_path / "nothing"))).check()
    assert "fssplat launch small.yaml" in str(caught.value)
    with pytest.raises(InputError, match=r"--against pfenet: no row has this method. Known: prior"):
        evidence(report_store, against="pfenet").check()
    evidence(report_store, against="panet").check()


def test_two_experiments_share_a_table_and_equal_names_are_told_apart(
    report_store: Store, tmp_path: Path
) -> None:
    store = copied(report_store, tmp_path)
    longer = report_trial("hsnet", 0)
    longer = longer.model_copy(update={"training": longer.training.model_copy(update={"steps": 9})})
    other = source(store, [longer], name="longer")
    from tests.fakes.report_stores import finish

    finish(store, longer, tmp_path)
    other = source(store, [longer], name="longer")
    (block,) = Evidence([source(store), other]).blocks
    assert [row.method for row in block.rows] == [
        "prior", "panet", "hsnet (small)", "hsnet (longer)",
    ]  # fmt: skip
    again = Evidence([source(store), source(store, name="copy")])
    assert [row.method for row in again.blocks[0].rows] == ["prior", "panet", "hsnet"]


@pytest.mark.slow
def test_a_report_leaves_the_store_as_it_is(report_store: Store, tmp_path: Path) -> None:
    before = report_store.files.sizes("")
    write_report(document(evidence(report_store)), tmp_path)
    assert report_store.files.sizes("") == before
    assert json.loads((tmp_path / "report.json").read_text())["format"] == 1
