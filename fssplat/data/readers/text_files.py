"""Read annotation files: each fault is one line."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.common.json_files import json_value

MOST_BYTES = 2**30  # of an annotation file


def annotation_text(path: Path) -> str:
    """The text of a file in UTF-8. Raises InputError."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES // 2**20} MiB. Split it.")
        return regular(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Check the name.") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Check its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8. Export it again.") from error


def annotation_json(path: Path) -> Any:
    """The JSON value in a file. Raises InputError."""
    try:
        return json_value(annotation_text(path))
    except ValueError as error:
        raise InputError(f"{path}: {error}. Export it again.") from error


def json_or_none(path: Path) -> Any:
    """The JSON value in a file; None if it is not readable as JSON."""
    try:
        return json.loads(regular(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None


def annotation_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file. Raises InputError."""
    try:
        return ElementTree.fromstring(annotation_text(path))
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not valid XML ({error}). Export it again.") from error
