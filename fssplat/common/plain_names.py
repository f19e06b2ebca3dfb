"""Check names that were read from a file or a server before they become part of a path.

A data set, a store or an MLflow server may be written by anybody. A name such as `../../.ssh/key`
or `/etc/passwd` would leave the folder that it is joined to.
"""

import re
from typing import NamedTuple

from fssplat.common.errors import InputError

LONGEST = 200  # characters; file systems allow 255 bytes, and we add suffixes


class Form(NamedTuple):
    """A regular expression for a whole name, and its description for a person."""

    pattern: str
    description: str


SHARD = Form(r"(train|val|test)-[0-9]{6,}\.tar", "a name such as train-000000.tar")
FINGERPRINT = Form(r"[0-9a-f]{16}", "16 hexadecimal digits")
ANY = Form(r".+", "a plain name without / and ..")


def plain_name(name: object, where: str, form: Form = ANY) -> str:
    """Return `name` if it can only name a file directly inside the folder that it is joined to.

    Raises InputError, which starts with `where`, for anything else: another form or type, a
    separator, `.`, `..`, a control character, more than LONGEST characters.
    """
    if isinstance(name, str) and _is_plain(name) and re.fullmatch(form.pattern, name):
        return name
    raise InputError(
        f"{where}: {_shown(name)} cannot be used as a file name; needed is {form.description}."
    )


def plain_path(name: object, where: str) -> str:
    """Return `name` if it is plain names joined by single `/`, so that it stays in its folder.

    Raises InputError for anything else, as `plain_name` does.
    """
    if is_plain_path(name):
        return str(name)
    raise InputError(
        f"{where}: {_shown(name)} cannot be used as a path; needed are plain names joined by /."
    )


def is_plain_path(name: object) -> bool:
    """Whether `name` is plain names joined by single `/`."""
    return isinstance(name, str) and all(map(_is_plain, name.split("/")))


def _is_plain(name: str) -> bool:
    short = 0 < len(name) <= LONGEST
    return short and name.isprintable() and name not in (".", "..") and not {"/", "\\"} & {*name}


def _shown(name: object) -> str:
    """The name in ASCII with control characters escaped, cut if it is long."""
    text = ascii(name)
    return text if len(text) <= 80 else f"{text[:77]}..."
