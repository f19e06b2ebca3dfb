"""`fssplat launch --rerun`: its words, and the trials that they choose."""

import pytest

from fssplat.cli.options import _one_word_each
from fssplat.common.errors import InputError
from fssplat.planning.rerun import chosen_trials
from fssplat.results.records import Result
from tests.fakes.trials import trial

TRIALS = {"a": trial(fold=0), "b": trial(fold=1), "c": trial(fold=1, method="hsnet")}
RESULTS = {one: Result({}) for one in ("a", "b", "c")}


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("x.yaml --rerun", "x.yaml --rerun all"),
        ("--rerun x.yaml", "--rerun all x.yaml"),
        ("x.yaml --rerun stale --dry-run", "x.yaml --rerun stale --dry-run"),
        ("x.yaml --rerun method=hsnet fold=0", "x.yaml --rerun method=hsnet --rerun fold=0"),
        ("--rerun fold=0 x.yaml --set grid.fold=1", "--rerun fold=0 x.yaml --set grid.fold=1"),
    ],
)
def test_rerun_takes_several_words_or_none(typed: str, read: str) -> None:
    assert list(_one_word_each(typed.split())) == read.split()


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        (["all"], "abc"),
        (["unknown"], "abc"),
        (["stale"], ""),
        (["fold=1"], "bc"),
        (["method=hsnet", "fold=1"], "c"),
        (["method=hsnet,panet fold=0"], "a"),
        (["id=a,c"], "ac"),
    ],
)
def test_all_conditions_must_hold_and_values_of_one_key_are_alternatives(
    where: list[str], chosen: str
) -> None:
    assert chosen_trials(where, TRIALS, RESULTS) == list(chosen)


@pytest.mark.parametrize(
    ("word", "says"),
    [("fold=7", "Known: 0, 1"), ("stael", "not a condition"), ("a=1", "KEY=VALUE")],
)
def test_a_condition_that_nothing_can_meet_is_refused(word: str, says: str) -> None:
    with pytest.raises(InputError, match=f"--rerun {word}") as refused:
        chosen_trials([word], TRIALS, RESULTS)
    assert says in str(refused.value)
