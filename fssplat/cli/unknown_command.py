"""The answer to a command that does not exist: one line with the command to type instead."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from fssplat.common.errors import InputError
from fssplat.common.passwords import hidden
from fssplat.common.printing import command_line, short
from fssplat.common.similar import allowed, mistakes

# What other tools call our commands. An argument of ours is shown if the user typed none.
OTHER_WORDS: Mapping[str, str] = {
    "predict --help": "segment infer inference",
    "launch X.yaml": "run train fit start resume continue eval evaluate test score table",
    "search X.yaml": "sweep tune optimize optimise",
    "retry X.yaml": "rerun",
    "gc X.yaml": "clean prune",
    "status": "ls list ps show results",
    "stop": "kill cancel",
    "ui": "mlflow dashboard",
    "verify --list": "reproduce papers",
    "settings": "options config set",
    "methods": "method",
    "doctor": "check info env",
    "init method my_method": "new create",
    "data build synthetic": "build",
    "data download pascal": "download",
    "import-checkpoint --help": "convert",
}
OURS = {word: command for command, words in OTHER_WORDS.items() for word in words.split()}
SCORES = "A launch trains and scores; it does only what has no result yet."
RESUMES = "The same command resumes a stopped launch."
ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("eval", "evaluate", "test", "score", "table"), SCORES),
    **dict.fromkeys(("resume", "continue"), RESUMES),
}
OPTIONS = ("version", "help")


class Commands(typer.core.TyperGroup):
    """A group whose unknown commands end in one line on stderr and exit code 2.

    Its help lists each command with the first sentence of its help, without the example.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        shown = [(name, command.help or "") for name, command in self.commands.items()]
        rows = [(name, text.partition(": fssplat")[0].partition("\n")[0]) for name, text in shown]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise InputError(answer(ctx.command_path, args, list(self.commands)))
        return super().resolve_command(ctx, args)


def answer(typed_before: str, words: Sequence[str], known: Sequence[str]) -> str:
    """The line about an unknown command; `words` are it and its arguments.

    `typed_before` is the program with its group, such as `fssplat data`.
    """
    name, rest = words[0], [hidden(word) for word in words[1:]]
    at_top = " " not in typed_before.removeprefix("python -m ")
    if at_top and name in OPTIONS:
        return _line(typed_before, name, f"{typed_before} --{name}")
    if at_top and name.endswith((".yaml", ".yml")):
        command = command_line([*typed_before.split(), "launch", name, *rest])
        return _line(typed_before, name, command)
    if at_top and name in OURS:
        ours = OURS[name] if not rest else f"{OURS[name].split()[0]} {command_line(rest)}"
        advice = f" {ADVICE[name]}" if name in ADVICE else ""
        return _line(typed_before, name, f"{typed_before} {ours}") + advice
    near = [one for one in known if mistakes(name.lower(), one) <= allowed(one)]
    near.sort(key=lambda one: mistakes(name.lower(), one))
    if near:
        return _line(typed_before, name, command_line([*typed_before.split(), near[0], *rest]))
    return f"{short(name)} is not a command of {typed_before}. Commands: {', '.join(known)}."


def _line(typed_before: str, name: str, command: str) -> str:
    return f"{short(name)} is not a command of {typed_before}. Did you mean `{command}`?"
