"""The list of bad inputs itself: how many there are, and how many answers are one whole line."""

from tests.bad_inputs.cases import (
    changes,
    commands,
    layers,
    searches,
    sources,
    stored,
    texts,
    values,
)

EVERY = [
    *texts.CASES, *values.CASES, *layers.CASES, *changes.CASES, *searches.CASES, *commands.CASES,
    *sources.CASES, *stored.CASES,
]  # fmt: skip


def test_there_are_at_least_250_cases_with_names_of_their_own() -> None:
    assert len(EVERY) >= 250
    assert len({case.name for case in EVERY}) == len(EVERY)


def test_nearly_every_answer_is_one_line_with_what_where_and_what_to_do() -> None:
    whole = [one for one in EVERY if not one.not_one_line]
    assert all(one.what and one.where and one.to_do for one in whole)
    assert len(whole) >= 0.95 * len(EVERY)
