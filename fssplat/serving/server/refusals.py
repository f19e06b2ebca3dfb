"""Errors of a request: a status, a code for programs, and one line for a person."""

from fssplat.common.errors import InputError


class RefusedError(InputError):
    """A request that is not answered."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def not_found(what: str) -> RefusedError:
    return RefusedError(404, "NOT_FOUND", what)


def busy(what: str) -> RefusedError:
    return RefusedError(503, "BUSY", f"{what}. Try again in a few seconds.")


def answer_of(error: InputError) -> tuple[int, dict[str, object]]:
    """Status and JSON body of an error: the form that X-AnyLabeling reads too."""
    status = error.status if isinstance(error, RefusedError) else 422
    code = error.code if isinstance(error, RefusedError) else "INVALID_INPUT"
    return status, {"success": False, "error": {"code": code, "message": str(error)}}
