"""Every printed command exists, and its options and arguments are right."""

import re
import shlex
from collections import Counter
from typing import Any

from tests.printed_commands.collected import (
    GROUP,
    OURS,
    PAGES,
    QUOTED,
    ROOT,
    blocks,
    every_command,
    in_comments,
    in_help,
    in_page,
    in_source,
    lines_of,
    strings,
)
from tests.printed_commands.not_run import NOT_RUN

EVERY = every_command()


def parts(command: str) -> list[list[str]]:
    """The words of each program in a command line; none for a hint whose command is a value."""
    if "{command}" in command:
        return []
    words = [shlex.split(part.replace("{}", "VALUE")) for part in command.split("&&")]
    return [[w for w in one if not re.match(r"[A-Z_]+=", w)] for one in words]


def arguments_of(words: list[str]) -> list[str] | None:
    """What follows `fssplat`; None if another program is called."""
    if words[0].rpartition("/")[2] == "fssplat":
        return words[1:]
    return words[3:] if words[1:3] == ["-m", "fssplat"] else None


def is_mention(words: list[str]) -> bool:
    """Whether the words only name a command that needs more, or are the first part of a list."""
    names = (*GROUP.commands, *GROUP.commands["data"].commands, "method")
    begun = "VALUE" in words or all(word in names for word in words)
    return problem_of(words) == "MissingParameter" and begun


def problem_of(words: list[str]) -> str:
    """The kind of error that the command line finds in these words; empty if it finds none."""
    command: Any = GROUP
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    if words == ["--install-completion"]:  # an eager option, which would be obeyed
        return "" if any("--install-completion" in one.opts for one in command.params) else "?"
    if "--help" in words:
        return ""
    try:
        with command.make_context("fssplat", list(words)):
            return ""
    except Exception as error:  # a class of the command line's own, private package
        return type(error).__name__


def test_every_command_and_its_options_exist() -> None:
    wrong = []
    for one in EVERY:
        for words in parts(one.command):
            arguments = arguments_of(words)
            if arguments and problem_of(arguments) and not is_mention(arguments):
                wrong.append(f"{one}: {problem_of(arguments)}")
    assert wrong == []


def test_every_command_can_be_pasted_into_bash_and_zsh() -> None:
    """zsh reads brackets as patterns, and a comment on its command line as arguments."""
    whole = [one for one in EVERY if "{command}" not in one.command]
    quoted = re.compile(r"'[^']*'|\"[^\"]*\"|\{\}")
    assert not [one for one in whole if re.search(r"[\[\]{}<>?*#]", quoted.sub("", one.command))]


def test_every_command_with_a_value_is_written_by_the_function_that_quotes() -> None:
    """A value in a text, such as f"fssplat launch {path}", may have spaces or brackets."""
    for path in sorted((ROOT / "fssplat").rglob("*.py")):
        texts, _ = strings(path)
        for text in texts:
            commands = [*QUOTED.findall(text), *re.findall(OURS, text)]
            assert not any("{}" in command for command in commands), f"{path}: {text}"


def test_the_table_of_commands_that_are_not_run_names_only_printed_commands() -> None:
    assert set(NOT_RUN) <= {one.command for one in EVERY}


def test_the_collector_finds_every_kind_of_place() -> None:
    pages = Counter(one.place for page in PAGES for one in in_page(page))
    assert pages["README.md"] >= 20
    assert {one.place for one in in_comments()} >= {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "experiments").rglob("*.yaml")
        if path.name != "base.yaml"
    }
    assert len(list(in_help())) >= 25
    assert len(in_source()) >= 50


def test_shell_blocks_are_read_whole() -> None:
    found = {one.command for page in PAGES for one in in_page(page)}
    assert {line for page in PAGES for block in blocks(page) for line in lines_of(block)} <= found
