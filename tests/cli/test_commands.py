"""What people type: help, version, completion, and commands that do not exist."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from fssplat import __version__
from fssplat.cli import app
from fssplat.cli.unknown_command import OURS
from fssplat.common.errors import InputError

RUN = CliRunner()
GROUP = typer.main.get_command(app)
KNOWN = list(GROUP.commands)  # type: ignore[attr-defined]
EVERY = [[name] for name in KNOWN if name not in ("data", "init")]
EVERY += [
    [group, name]
    for group in ("data", "init")
    if group in KNOWN
    for name in GROUP.commands[group].commands  # type: ignore[attr-defined]
]
NEEDS_MORE = {
    "launch", "plan", "search", "retry", "sync", "gc", "import-checkpoint", "method",
    "build", "info", "audit", "import-lists", "download",
}  # fmt: skip


def typed(*words: str) -> str:
    """The line that these words end in."""
    result = RUN.invoke(app, list(words), prog_name="fssplat")
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("words", [[], *EVERY], ids=" ".join)
def test_every_command_has_help_with_an_example(words: list[str], option: str) -> None:
    result = RUN.invoke(app, [*words, option], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    if words:
        assert (
            f"fssplat {' '.join(words)}" in result.output.partition("Usage")[2].partition("\n")[2]
        )


def test_help_keeps_brackets_and_lists_whole_sentences_in_80_columns() -> None:
    text = RUN.invoke(app, ["plan", "-h"], env={"COLUMNS": "80"}).output
    assert "[default: those of this machine]" in " ".join(text.split())
    text = RUN.invoke(app, ["-h"], env={"COLUMNS": "80"}).output
    assert "launch             Run every trial that has no result yet\n" in text
    assert "..." not in text.partition("Commands:")[2]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_printed(option: str) -> None:
    assert RUN.invoke(app, [option]).output == f"{__version__}\n"


def test_the_package_runs_as_a_module_and_completes_commands() -> None:
    completion = {"_FSSPLAT_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'fssplat'; import fssplat.cli as c"]
    command[-1] += "; c.main()"
    found = subprocess.run(
        command,
        env={**os.environ, **completion, "COMP_WORDS": "fssplat st"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.stdout.split() == ["status", "stop"]
    module = [sys.executable, "-m", "fssplat", "sweep"]
    done = subprocess.run(module, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.endswith("Did you mean `python -m fssplat search X.yaml`?\n")


def test_help_imports_no_heavy_package() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from fssplat.cli import app; "
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0; "
        "print([m for m in ('torch', 'ray', 'mlflow', 'optuna', 'numpy', 'pydantic', 'yaml') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run", "X.yaml"], "fssplat launch X.yaml"),
        (["train"], "fssplat launch X.yaml"),
        (["resume", "my file.yaml"], "fssplat launch 'my file.yaml'"),
        (["eval", "X.yaml"], "fssplat launch X.yaml"),
        (["test"], "fssplat launch X.yaml"),
        (["sweep", "X.yaml", "--set", "fold=[0]"], "fssplat search X.yaml --set 'fold=[0]'"),
        (["experiments/X.yaml"], "fssplat launch experiments/X.yaml"),
        (["lanuch", "X.yaml"], "fssplat launch X.yaml"),
        (["stats"], "fssplat status"),
        (["serach", "X.yaml"], "fssplat search X.yaml"),
        (["version"], "fssplat --version"),
        (["data", "biuld", "synthetic"], "fssplat data build synthetic"),
    ],
)  # fmt: skip
def test_a_command_of_another_tool_or_a_typo_is_answered_by_ours(
    words: list[str], hint: str
) -> None:
    line = typed(*words)
    assert f"Did you mean `{hint}`?" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "words", [[*one] for one in EVERY if one[-1] in NEEDS_MORE and one != ["verify"]], ids=" ".join
)
def test_a_command_without_its_argument_says_which_is_missing(words: list[str]) -> None:
    result = RUN.invoke(app, words)
    assert result.exit_code == 2
    assert "Error: Missing" in result.output


def test_one_line_and_exit_code_2_for_an_unknown_command() -> None:
    assert typed("run", "X.yaml").endswith("Did you mean `fssplat launch X.yaml`?")
    assert typed("data", "bild").endswith("Did you mean `fssplat data build`?")


@pytest.mark.parametrize("word", ["steps", "foo", "x", "zzz"])
def test_a_word_that_resembles_no_command_gets_the_list_and_no_guess(word: str) -> None:
    line = typed(word)
    assert "Did you mean" not in line
    assert "launch, plan, " in line


def test_a_hostile_word_reaches_the_screen_without_control_characters() -> None:
    line = typed("\x1b[2J[bold]" + "x" * 500)
    assert "\x1b" not in line
    assert len(line) < 400


@pytest.mark.parametrize("command", sorted(set(OURS.values())))
def test_every_suggested_command_exists(command: str) -> None:
    group = GROUP
    for word in shlex.split(command):
        if not hasattr(group, "commands"):
            break
        assert word in group.commands, command
        group = group.commands[word]
    options = {name for option in group.params for name in option.opts} | {"--help"}
    assert set(re.findall(r"--[\w-]+", command)) <= options
