"""Hides passwords in the addresses of databases and servers, for screen and files."""

import re
from collections.abc import Mapping
from typing import Any

from fssplat.common.errors import InputError

HIDDEN = "***"


def hidden(text: str) -> str:
    """The text with `***` in place of the passwords of addresses.

    A password ends at the last @ of its line before the next address, since it may contain an @
    itself.
    """
    text = re.sub(r"(://[^:/\n]*:)(?:(?!://).)*@", rf"\1{HIDDEN}@", text)
    return re.sub(r"([?&]\w*(?:password|passwd)=)[^&\s]*", rf"\1{HIDDEN}", text)


def hidden_in(value: Any) -> Any:
    """The same JSON value with the passwords of all its addresses hidden."""
    if isinstance(value, Mapping):
        return {key: hidden_in(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hidden_in(item) for item in value]
    return hidden(value) if isinstance(value, str) else value


def require_password(setting: str, address: str) -> None:
    """Raises InputError for an address that was copied from our output, with `***` as password."""
    if f":{HIDDEN}@" in address:
        raise InputError(f"{setting} {address}: write the password in place of {HIDDEN}.")
