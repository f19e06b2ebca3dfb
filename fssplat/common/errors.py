"""Errors that the person at the command line can fix."""

LONGEST_LINE = 300  # characters of an exception that is shown as one line


class InputError(Exception):
    """Bad input: one line that says what and where, what was needed, and what to do next.

    The command line prints it without a traceback and exits with code 2.
    """


class StoreAwayError(OSError):
    """A store behind an address does not answer, or refuses these credentials.

    It is an OSError, since another attempt may succeed. The command line prints it like an
    InputError.
    """


class RayLostError(Exception):
    """Ray ended under a launch or a search, which has already printed a line about it.

    Threads may block in Ray for ever. Therefore the command line ends the process at once, with
    exit code 1.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def described(error: BaseException) -> str:
    """An exception as one line for a person: its type, then the first line of its text.

    A long line is cut; `fssplat logs` shows the whole text of an error in a job.
    """
    kind, first = type(error).__name__, first_line(error)
    text = kind if first == kind else f"{kind}: {first}"
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 3]}..."
