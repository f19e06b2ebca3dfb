"""The one exception that means "you can fix this"."""


class InputError(Exception):
    """Bad input: one line that says what and where, what was needed, and what to do next.

    The command line prints it without a traceback and exits with code 2.
    """
