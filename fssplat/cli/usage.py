"""The answer to wrong words of a command: one line with what to type to see its options."""

import sys
from typing import Any

import typer

# Click's, of which Typer's newer versions contain a copy under another name.
USAGE_ERRORS: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def usage_line(error: Any, group: Any) -> str:
    """`fssplat plan: Missing argument 'EXPERIMENT'. See ...`; empty if help is the answer.

    `group` is the command `fssplat` itself.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        return ""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else _typed_command(group)
    text = " ".join(error.format_message().split())
    end = "" if text.endswith((".", "?")) else "."
    return f"{command}: {text}{end} `{command} --help` shows its arguments."


def _typed_command(group: Any) -> str:
    """`fssplat data build` for the words of this process: the parser's errors do not name it."""
    names = ["fssplat"]
    for word in sys.argv[1:]:
        if word not in getattr(group, "commands", {}):
            break
        group = group.commands[word]
        names.append(word)
    return " ".join(names)
