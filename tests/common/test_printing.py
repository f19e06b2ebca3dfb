"""Printing: text of users is text, and commands stay whole."""

import io
import re
import subprocess
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import fssplat
from fssplat.common.printing import (
    BREAKING,
    Screen,
    command_line,
    complain,
    one_line,
    say,
    visible,
    whole_line,
)

HOSTILE = "a[/b] [red]x[/red] :smile: \x1b]0;owned \x9b31m \u202eabc"
SHOWN = r"a[/b] [red]x[/red] :smile: \x1b]0;owned \x9b31m \u202eabc"


def screen(width: int = 40) -> tuple[Screen, io.StringIO]:
    stream = io.StringIO()
    return Screen(file=stream, width=width, force_terminal=True, color_system=None), stream


def test_markup_emoji_and_steering_characters_are_printed_as_text() -> None:
    console, stream = screen(400)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    console.print(HOSTILE)
    console.print(Text(HOSTILE))
    console.print(table)
    assert stream.getvalue().count(SHOWN) == 5
    assert not set("\x07\x9b\u202e") & set(stream.getvalue())


def test_plain_text_is_never_wrapped_or_cut() -> None:
    console, stream = screen(20)
    command = "fssplat launch x.yaml --set 'training.augment={flip: true, resize: pad}'"
    console.print(command)
    console.print(Text(command))
    table = Table()
    table.add_column("a")
    from rich.console import Group

    console.print(Group(table, whole_line(command)))
    assert stream.getvalue().splitlines().count(command) == 3


def test_a_message_of_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a\nb\x1b[2J")
    assert capsys.readouterr().err == "fssplat: a b\\x1b[2J\n"


def test_tabs_and_line_breaks_are_kept_in_longer_text(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\tb\nc")
    assert capsys.readouterr().out == "a\tb\nc\n"


def test_letters_of_every_language_are_kept() -> None:
    assert visible("Äöü 猫 кошка قط 🐈") == "Äöü 猫 кошка قط 🐈"
    assert one_line(" a \n b ") == "a   b"


def test_everything_is_printed_by_the_one_module() -> None:
    """A bare `print` or rich's own Console would show markup and escapes of users' text."""
    root = Path(fssplat.__file__).parent
    bare = re.compile(
        r"^\s*print\(|typer\.echo\(|(?<![\w.\"])Console\(|sys\.std(out|err)\.write", re.M
    )
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if bare.search(path.read_text()) and path.name != "printing.py"
    }
    assert found == set()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_command_with_unprintable_letters_can_be_pasted_in_any_locale(locale: str) -> None:
    word = "it's \x1b]0;x\x9c \u202e\n\\ `t`"
    command = command_line(["printf", "%s", word])
    assert not BREAKING.search(command)
    shell = ["bash", "-c", command]
    done = subprocess.run(shell, capture_output=True, check=True, env={"LC_ALL": locale})
    assert done.stdout.decode() == word
