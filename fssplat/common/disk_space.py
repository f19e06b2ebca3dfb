"""How a full disk is recognised, by the error's number or by its text."""

import errno
import re

NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a user's share, a file's limit
TEXT = re.compile("no space left|disk quota exceeded|disk is full", re.IGNORECASE)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the system, of SQLite or of a file library means a full disk."""
    numbered = isinstance(error, OSError) and error.errno in NUMBERS
    return numbered or states_disk_full(str(error))


def states_disk_full(text: str) -> bool:
    """The same for a message whose exception has gone, such as a job's recorded reason."""
    return TEXT.search(text) is not None
