"""Passwords of addresses: in nothing that is shown or kept, and asked for where one is missing."""

import pytest

from fssplat.common.errors import InputError
from fssplat.common.passwords import hidden, hidden_in, require_password


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://me:secret@db:5432/studies", "postgresql://me:***@db:5432/studies"),
        ("postgresql+psycopg2://me:secret@db/studies", "postgresql+psycopg2://me:***@db/studies"),
        ("http://me@corp:s3/cr:e@t@head:5000", "http://me@corp:***@head:5000"),
        ("mysql://:secret@db/x", "mysql://:***@db/x"),
        ("mysql://db/x?user=me&password=secret&ssl=1", "mysql://db/x?user=me&password=***&ssl=1"),
        ("postgresql://me:secret@h:notaport/db", "postgresql://me:***@h:notaport/db"),
        ("search.storage=postgresql://me:secret@db/x", "search.storage=postgresql://me:***@db/x"),
        (
            "postgresql://u@h:1/x: no answer. Give sqlite:///a.db or postgresql://<user>@<host>",
            "postgresql://u@h:1/x: no answer. Give sqlite:///a.db or postgresql://<user>@<host>",
        ),
        ("http://a:b@c is not http://d:e@f", "http://a:***@c is not http://d:***@f"),
        ("http://head:5000", "http://head:5000"),
        ("postgresql://me@db:5432/studies", "postgresql://me@db:5432/studies"),
        ("sqlite:////home/me@work/a:b.db", "sqlite:////home/me@work/a:b.db"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("grid.fold=[0, 1]", "grid.fold=[0, 1]"),
    ],
)
def test_the_password_of_an_address_is_hidden_and_the_rest_is_shown(given: str, shown: str) -> None:
    assert hidden(given) == shown
    assert hidden(shown) == shown


def test_passwords_are_hidden_everywhere_in_a_record() -> None:
    value = {"a": {"b": ["http://me:secret@head", 1]}, "c": ("x://me:secret@y",), "d": None}
    assert hidden_in(value) == {
        "a": {"b": ["http://me:***@head", 1]},
        "c": ["x://me:***@y"],
        "d": None,
    }


def test_an_address_with_a_hidden_password_is_refused() -> None:
    require_password("tracking", "http://me:secret@head")
    with pytest.raises(InputError, match=r"write the password in place of \*\*\*"):
        require_password("tracking", hidden("http://me:secret@head"))
