import errno
import os
import sqlite3

import pytest

from fssplat.common.disk_space import is_disk_full, states_disk_full


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_recognised_by_its_number(number: int) -> None:
    assert is_disk_full(OSError(number, "in another language"))


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (RuntimeError(os.strerror(errno.EDQUOT)), True),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (ValueError("no space for a mask"), False),
    ],
)
def test_a_full_disk_is_recognised_by_its_text(error: Exception, full: bool) -> None:
    assert is_disk_full(error) == states_disk_full(str(error)) == full
