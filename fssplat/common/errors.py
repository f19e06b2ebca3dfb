"""The one exception that means "you can fix this"."""


class InputError(Exception):
    """Bad input: one line that says what and where, what was needed, and what to do next.

    The command line prints it without a traceback and exits with code 2.
    """


class StoreAwayError(OSError):
    """A store behind an address does not answer, or not to these credentials.

    An OSError, since the same may well work a moment later. The command line prints it like an
    InputError.
    """
