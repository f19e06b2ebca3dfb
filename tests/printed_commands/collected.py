"""Finds every command that a reader can paste: in pages, comments, help and the source."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

from fssplat.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
GROUP: Any = typer.main.get_command(app)
NAMES = "|".join(map(re.escape, GROUP.commands))
# `fssplat`, then a command or an option; or another program that a reader is told to run.
OURS = rf"fssplat (?:{NAMES}|--?[A-Za-z])[^`\n]*"
PROGRAMS = [
    "fssplat",
    "make",
    "sbatch",
    "ray",
    "pip",
    "git",
    "mlflow",
    "optuna",
    "python",
    "python3",
]
OTHERS = rf"(?:{'|'.join(PROGRAMS[1:])}) [^`\n]*"
PREFIX = r"(?:[A-Z][A-Z_]*=\S+ )?(?:\S+/)?"
COMMAND = re.compile(rf"(?:{PREFIX})(?:{OURS}|{OTHERS})")
QUOTED = re.compile(rf"`({COMMAND.pattern})`")
DOCSTRINGS = (".py", ".txt")  # files whose commands can be lines of a docstring
FENCE = re.compile(r"^ *```sh\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, order=True)
class Printed:
    """One command and where it is printed, such as `docs/search.md`."""

    place: str
    command: str

    def __str__(self) -> str:
        return f"{self.place}: {self.command}"


def place_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ------------------------------------------------------------------ pages and comments


def blocks(page: Path) -> list[str]:
    """The shell blocks of a page, without their indentation."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return ["\n".join(line.strip() for line in block.splitlines()) for block in found]


def lines_of(block: str) -> list[str]:
    """The commands of a block; a command that goes on in the next line is one."""
    joined = re.sub(r" *\\\n *", " ", block)
    return [line.strip() for line in joined.splitlines() if line.strip()]


def in_page(page: Path) -> Iterator[Printed]:
    """Commands of shell blocks, and those inside the text."""
    for block in blocks(page):
        for line in lines_of(block):
            yield Printed(place_of(page), line)
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for command in QUOTED.findall(re.sub(r"\s*\n\s*", " ", text)):
        yield Printed(place_of(page), command.strip())


def in_comments() -> Iterator[Printed]:
    """Commands in the comments of experiments, examples, cluster files and templates.

    Two spaces end a command; what follows explains it.
    """
    folders = ("experiments", "cluster", "docs/examples", "fssplat/cli/templates")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*"))]
    for path in files:
        if path.suffix in (".yaml", ".sh", ".py", ".txt"):
            for line in path.read_text(encoding="utf-8").splitlines():
                text = re.split(r"(?<=\S)  +", line.removeprefix("#").strip())[0]
                if COMMAND.fullmatch(text) and (line.startswith("#") or path.suffix in DOCSTRINGS):
                    yield Printed(place_of(path), text)


# ------------------------------------------------------------------ help


def commands_of(group: Any = GROUP, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command by the words that call it, such as `data build`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def in_help() -> Iterator[Printed]:
    """The examples in the help of each command."""
    yield from _examples("fssplat --help", GROUP.epilog or "")
    for name, command in commands_of():
        yield from _examples(f"fssplat {name} --help", command.help or "")
        for option in command.params:
            yield from _examples(f"fssplat {name} --help", option.help or "")


def _examples(place: str, text: str) -> Iterator[Printed]:
    for line in text.splitlines():
        for command in _in_line(line):
            yield Printed(place, command)


def _in_line(line: str) -> Iterator[str]:
    """Commands between backticks, and those that end at the end of a sentence or of the line."""
    yield from (command.strip() for command in QUOTED.findall(line))
    for command in re.findall(OURS, re.sub(r"`[^`]*`", "", line)):
        yield re.split(r"\.(?: |$)|  ", command)[0].strip()


# ------------------------------------------------------------------ strings of the source


@cache
def in_source() -> tuple[Printed, ...]:
    """Commands in strings of fssplat/ that are no docstrings; `{}` stands for a value.

    Also lists that begin with "fssplat", which `command_line` joins, and texts that end a command
    made elsewhere, such as `{} --rerun stale`.
    """
    found: dict[Printed, None] = {}
    for path in sorted((ROOT / "fssplat").rglob("*.py")):
        texts, lists = strings(path)
        for text in (*texts, *(f"`{one}`" for one in lists)):
            for command in _hints(text):
                found[Printed(place_of(path), command)] = None
    return tuple(found)


def strings(path: Path) -> tuple[list[str], list[str]]:
    """Every string of a module that is no docstring, and the lists of words that make a command."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside, texts, lists = _docstrings(tree), [], []
    for node in ast.walk(tree):  # an outer node before those inside it
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node)}
            texts.append("".join(map(_text, node.values)))
        elif isinstance(node, ast.List) and node.elts and _text(node.elts[0]) in PROGRAMS:
            inside |= {id(part) for part in node.elts}
            lists.append(" ".join(filter(None, map(_text, node.elts))))
        elif isinstance(getattr(node, "value", None), str) and id(node) not in inside:
            texts.append(node.value)  # of a constant
    return texts, lists


def _text(node: ast.AST) -> str:
    """A constant's text, `{command}` for a value that is a command, `{}` for another value.

    Empty for values that a list may lack.
    """
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Starred):
        return ""
    source = ast.unparse(node.value if isinstance(node, ast.FormattedValue) else node)
    return "{command}" if re.search(r"command\b|command\(", source) else "{}"


def _docstrings(tree: ast.AST) -> set[int]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, kinds)]
    firsts = [body[0] for body in bodies if body and isinstance(body[0], ast.Expr)]
    return {id(first.value) for first in firsts}


def _hints(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from _in_line(line)
        if "{command}" in line:
            yield line.strip()


def every_command() -> list[Printed]:
    """All of them, sorted."""
    pages = [one for page in PAGES for one in in_page(page)]
    return sorted({*pages, *in_comments(), *in_help(), *in_source()})
