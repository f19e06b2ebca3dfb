"""`fssplat show`: one episode as a PNG."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from fssplat.cli import app
from fssplat.common.errors import InputError
from fssplat.results.store import Store
from tests.fakes.shown_episodes import shown_trials, store_with_masks

PRIOR, HSNET = (one.trial_id({}) for one in shown_trials(""))


@pytest.fixture(scope="module")
def store(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_with_masks(tmp_path_factory.mktemp("shown"), synthetic)


def show(store: Store, *words: str | Path) -> Any:
    return CliRunner().invoke(app, ["show", *map(str, words), "--store", store.address])


def test_two_predictions_of_an_episode_are_drawn(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "one.png"
    done = show(store, f"{HSNET}:0:3", "--against", PRIOR, "--out", out)
    assert done.exit_code == 0, done.exception
    assert done.output.splitlines()[-1] == f"The picture: {out}"
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        both = picture.width
    assert show(store, f"{HSNET}:0:3", "--out", out).exit_code == 0
    with Image.open(out) as picture:
        assert picture.width < both


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense"], "not an episode. Give TRIAL:SEED:EPISODE"),
        ([f"{HSNET}:0:10"], "has no episode 0:10:1. Its seeds: 0; its episodes: 0 to 9"),
        (["0123456789abcdef:0:0"], "has no result with this id"),
        ([f"{HSNET}:0:0", "--against", "me"], "--against me: not the id of a trial"),
        ([f"{HSNET}:0:0", "--data", "/nowhere"], "no data set there"),
        ([f"{HSNET}:0:0", "--out", "/proc/x/y.png"], "cannot be written"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(store: Store, words: list[str], says: str) -> None:
    done = show(store, *words)
    assert isinstance(done.exception, InputError)
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)
