"""Recognise a file of a wrong kind that was given or downloaded."""

import errno
import stat
from pathlib import Path

LOOKED_AT = 512  # bytes


def regular(path: Path) -> Path:
    """The same path, to be opened now. Raises OSError for a pipe, socket or device.

    A pipe keeps its reader waiting for a writer; a device such as /dev/zero has no end.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return path
    raise OSError(errno.EINVAL, "it is a pipe or a device", str(path))


def wrong_kind(path: Path) -> str:
    """Why the file cannot be one of weights, and what to do; empty if its start does not say so."""
    if path.is_dir():
        return "is a folder. Give the file in it."
    with regular(path).open("rb") as file:
        start = file.read(LOOKED_AT).lstrip().lower()
    if not start:
        return "is empty. Copy or download it again."
    if start.startswith(b"version https://git-lfs"):
        return "is a git-LFS pointer, not the file itself. Run `git lfs pull` in its repository."
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page, not a weight file. Download the file itself, not the page about it."
    return ""
