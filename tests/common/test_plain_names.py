"""Names from a file or a server that must not leave the folder that they are joined to."""

import pytest

from fssplat.common.errors import InputError
from fssplat.common.plain_names import FINGERPRINT, SHARD, plain_name, plain_path

OUTSIDE = [
    "", ".", "..", "../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b", "a\nb", "\x1b[31m", "\u202e",
    "\udcff", "x" * 201, None, 5, ["a"],
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
def test_a_name_that_could_leave_its_folder_is_refused_in_one_line(name: object) -> None:
    for check in (plain_name, plain_path):
        with pytest.raises(InputError, match=r"^list\.txt: .* cannot be used as a ") as caught:
            check(name, "list.txt")
        assert str(caught.value).isprintable()
        assert str(caught.value).isascii()


def test_plain_names_and_paths_are_returned_as_they_are() -> None:
    for name in ("2007_000032", "har gow", "é", "a..b", ".hidden"):
        assert plain_name(name, "list.txt") == name
    assert plain_path("panels/0.png", "x") == "panels/0.png"
    for path in ("/a", "a//b", "a/", "a/./b"):
        with pytest.raises(InputError, match="needed are plain names joined by /"):
            plain_path(path, "x")


def test_a_form_is_matched_by_the_whole_name() -> None:
    assert plain_name("train-000012.tar", "x", SHARD) == "train-000012.tar"
    assert plain_name("0123456789abcdef", "x", FINGERPRINT) == "0123456789abcdef"
    for name in (
        "train-000012.tar\n",
        "train-12.tar",
        "all-000012.tar",
        "id_rsa",
        "train-٠٠٠٠٠٠.tar",
    ):
        with pytest.raises(InputError, match=r"needed is a name such as train-000000\.tar"):
            plain_name(name, "x", SHARD)
