"""README and docs/ name only files, functions and commands that exist."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import typer

from fssplat.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:fssplat|tests|experiments|cluster|bench|docs)/[\w./-]*)`")
MADE_BY_READER = ("experiments/X.yaml", "fssplat/methods/yours.py")


def _heading(line: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            lines = target.read_text(encoding="utf-8").splitlines()
            headings = {_heading(line) for line in lines if line.startswith("#")}
            assert anchor in headings, f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page: Path) -> None:
    for path in NAMED.findall(page.read_text(encoding="utf-8")):
        assert path in MADE_BY_READER or (ROOT / path).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_names_are_defined_in_their_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for label, link in re.findall(r"\[`(\w+)(?:\(\))?`\]\(([^)\s]+\.py)\)", text):
        source = (page.parent / link).read_text(encoding="utf-8")
        found = re.search(rf"^\s*(?:def|class) {label}\b|^{label}\b", source, re.MULTILINE)
        assert found, f"{page.name}: {label} is not defined in {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_blocks_can_be_pasted_into_bash_and_zsh(page: Path) -> None:
    """zsh reads brackets as patterns, and a comment on its command line as arguments."""
    for line in _shell_lines(page):
        unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", line)
        assert not re.search(r"[\[\]{}<>?*#]", unquoted), f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    outside = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    inline = re.findall(r"`(fssplat [^`]*)`", outside.replace("\n", " "))
    for line in (*_shell_lines(page), *inline):
        for part in line.split("&&"):
            words = shlex.split(part)
            if "fssplat" in words:
                _check(words[words.index("fssplat") + 1 :], f"{page.name}: {line}")


def _shell_lines(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def _check(words: list[str], where: str) -> None:
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, where
        command, words = command.commands[words[0]], words[1:]
    known = {name for option in command.params for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= {*known, "--help"}, where


def test_the_readme_asks_the_question_of_each_package() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    packages = sorted(path.parent.name for path in (ROOT / "fssplat").glob("*/__init__.py"))
    rows = dict(re.findall(r"^\| \[`fssplat/(\w+)/`\]\([^)]*\) \| ([^?]*\?)", readme, re.MULTILINE))
    assert sorted(rows) == packages
    for name in packages:
        text = import_module(f"fssplat.{name}").__doc__ or ""
        assert text.startswith(rows[name]), f"fssplat/{name}/__init__.py: {text.splitlines()[0]}"
