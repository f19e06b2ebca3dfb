"""The commands `fssplat methods` and `fssplat settings`: what can be run and set."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fssplat.backbones import BACKBONES
from fssplat.cli import app
from fssplat.cli.methods import paper, what_it_is
from fssplat.cli.settings import every_setting
from fssplat.cli.text_columns import columns
from fssplat.common.errors import InputError
from fssplat.experiment.describe import describe
from fssplat.methods import METHODS

RUN = CliRunner()


def printed(*words: str) -> str:
    result = RUN.invoke(app, list(words), prog_name="fssplat", env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if not line.startswith("`")]
    assert max(map(len, lines)) <= 80
    return " ".join(result.output.split())


def test_every_method_is_listed_with_its_paper_options_losses_and_sizes() -> None:
    text = printed("methods")
    for name, method in METHODS.items():
        assert f"{name} {what_it_is(method)}" in text
        assert paper(method)[:40] in text
        for option in describe(method.Options):
            assert f"{option.name}={option.default}" in text
        for loss, weight in method.LOSS_WEIGHTS.items():
            assert f"{loss}: {weight:g}" in text
    assert "641 on coco-20i" in text


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_line_and_a_paper_are_found_for_every_method(name: str) -> None:
    assert 20 < len(what_it_is(METHODS[name])) < 100
    assert "et al." in paper(METHODS[name])
    assert "below" not in paper(METHODS[name])


def test_one_method_is_shown_with_the_meaning_of_each_option() -> None:
    text = printed("methods", "sdaanet")
    assert "options.kd_factor on Eq. 5, besides temperature squared [number > 0; default 1]" in text
    assert "default []; scoring only" in text
    assert "distillation: 50" in text
    assert "preset public-code: options: {teacher_average: prototype" in text
    assert "training on coco-20i epochs: 50" in text
    assert f"backbones {', '.join(BACKBONES)}, timm:<name>" in text


def test_a_method_outside_the_package_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs" / "examples"))
    text = printed("methods", "nearest_support:NearestSupport")
    assert "options.scale logits per unit of cosine [number > 0; default 10]" in text


def test_a_mistyped_method_is_answered_by_the_nearest() -> None:
    result = RUN.invoke(app, ["methods", "hsnte"])
    assert isinstance(result.exception, InputError)
    assert "Did you mean hsnet?" in str(result.exception)


def test_every_setting_is_listed() -> None:
    text = printed("settings")
    for setting in every_setting():
        assert setting.name in text


def test_settings_under_a_prefix_or_with_a_word_in_their_name() -> None:
    augment = printed("settings", "training.augment")
    assert "training.augment.flip horizontal, with probability 0.5 [true or false;" in augment
    assert "training.lr" not in augment
    assert printed("settings", "lr").startswith("training.lr learning rate at the first step")
    assert "grid.method[].preset" in printed("settings", "grid.method")


def test_an_unknown_setting_is_answered_by_the_nearest() -> None:
    result = RUN.invoke(app, ["settings", "trainin.lr"])
    assert isinstance(result.exception, InputError)
    assert "Did you mean training.lr?" in str(result.exception)
    result = RUN.invoke(app, ["settings", "qqq"])
    assert "Did you mean" not in str(result.exception)


def test_columns_wrap_text_beside_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = columns([("a", "word " * 14), ("long-name", "b")], indent=2, widest=5)
    assert text.splitlines() == [
        "  a      word word word word word word word word word word",
        "         word word word word",
        "  long-name",
        "         b",
    ]
