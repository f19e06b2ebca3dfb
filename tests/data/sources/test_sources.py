"""Names of data sets, their default folders and the keys of their images."""

from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.data.sources import check_name, default_source
from fssplat.data.sources.record import SourceOptions, safe_key

PLAIN = SourceOptions()


def test_an_unknown_data_set_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'pascal' is unknown. Did you mean pascal-5i\? Known: "):
        check_name("pascal", None, PLAIN)
    with pytest.raises(InputError, match=r"'pascal' is unknown. Did you mean pascal-5i\? Else: "):
        check_name("pascal", tmp_path, PLAIN)
    with pytest.raises(InputError, match=r"'\.\./a' cannot name a data set"):
        check_name("../a", tmp_path, PLAIN)


def test_downloads_go_where_builds_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSSPLAT_DATA", "/somewhere")
    assert default_source("pascal-5i") == Path("/somewhere/raw/pascal")
    assert default_source("synthetic", Path("/out")) == Path("/out/source")


@pytest.mark.parametrize(
    ("name", "key"), [("2007_000032", "2007_000032"), ("a.b c", "a_b_c"), ("x" * 200, "x" * 90)]
)
def test_a_key_has_no_dot_and_fits_a_tar_header(name: str, key: str) -> None:
    assert safe_key(name) == key
