import json
import os
from pathlib import Path

import pytest

from fssplat.common.whole_files import (
    SUFFIX,
    remove_unfinished,
    replacing,
    temporary_name,
    write_json,
    write_whole,
)


def test_an_error_while_writing_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"b": 1, "a": 2})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write_whole(path, fail)
    assert json.loads(path.read_text()) == {"a": 2, "b": 1}
    assert os.listdir(tmp_path) == ["file.json"]


def test_two_writers_of_one_file_use_two_temporary_names(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
        assert first.match(f".*{SUFFIX}")
    assert path.read_text() == "first"  # the block that ended last
    assert os.listdir(path.parent) == ["file"]


def test_only_the_temporary_files_of_one_name_are_removed(tmp_path: Path) -> None:
    killed, other = temporary_name(tmp_path / "a"), temporary_name(tmp_path / "b")
    for path in (killed, other, tmp_path / "a"):
        path.touch()
    remove_unfinished(tmp_path / "a")
    assert set(tmp_path.iterdir()) == {other, tmp_path / "a"}
