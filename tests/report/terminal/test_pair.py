"""One pair in a terminal, from the small store."""

from io import StringIO

import pytest

from fssplat.common.errors import InputError
from fssplat.common.printing import Screen
from fssplat.report.evidence.by_id import is_id, source_of_ids
from fssplat.report.evidence.gather import Evidence
from fssplat.report.terminal.pair import named_pairs, pair_of_ids, pair_table, wins
from fssplat.results.store import Store
from tests.fakes.report_stores import evidence, report_trial


def printed(pair: object, found: Evidence) -> str:
    out = StringIO()
    Screen(file=out, width=80).print(pair_table(*pair, found))  # type: ignore[misc]
    return out.getvalue()


def test_a_pair_shows_both_rows_and_both_intervals(report_store: Store) -> None:
    found = evidence(report_store)
    (pair,) = named_pairs(found, "hsnet", "prior@resnet50")
    block, ours, theirs = pair
    text = printed(pair, found)
    gap = (ours.mean(block.folds) or 0) - (theirs.mean(block.folds) or 0)
    assert f"hsnet minus prior: {gap:+.1f} points of mean mIoU" in text
    assert "by query image  95 % [+" in text
    images = {key for cell in ours.cells for key in found.counts(cell.trial_id).query}  # type: ignore[union-attr]
    assert f"{len(images)} images" in text
    assert "10 classes" in text
    assert max(map(len, text.splitlines())) <= 80
    better, worse, equal = wins(ours, theirs, found)
    assert better + worse + equal == 2 * 2 * 40  # folds, episode seeds, episodes
    assert f"{better} better, {worse} worse" in text


def test_the_pair_in_reverse_order_is_mirrored(report_store: Store) -> None:
    found = evidence(report_store)
    texts = [
        printed(named_pairs(found, *names)[0], found)
        for names in (("hsnet", "panet"), ("panet", "hsnet"))
    ]
    low, high = texts[0].split("image  95 % [")[1].split("]")[0].split(", ")
    mirrored = {"+": "−", "−": "+"}
    assert f"[{mirrored[high[0]]}{high[1:]}, {mirrored[low[0]]}{low[1:]}]" in texts[1]


def test_two_trials_are_found_by_their_ids(report_store: Store) -> None:
    ids = [report_trial(method, 0).trial_id({}) for method in ("hsnet", "prior")]
    assert all(map(is_id, ids))
    found = Evidence([source_of_ids(report_store, ids)])
    text = printed(pair_of_ids(found, *ids), found)
    assert "fold-0" in text
    assert "fold-1" not in text
    assert "5 classes" in text


def test_wrong_names_and_ids_are_one_line(report_store: Store) -> None:
    found = evidence(report_store)
    with pytest.raises(InputError, match=r"hsnat: no row has this name. Did you mean hsnet"):
        named_pairs(found, "hsnat", "prior")
    with pytest.raises(InputError, match="no table has both"):
        named_pairs(found, "prior", "prior")
    with pytest.raises(InputError, match="has no result with this id"):
        source_of_ids(report_store, ["0" * 16])
    ids = [report_trial("hsnet", fold).trial_id({}) for fold in (0, 1)]
    both = Evidence([source_of_ids(report_store, ids)])
    with pytest.raises(InputError, match="no episodes in common"):
        pair_of_ids(both, *ids)
