"""RAY_ADDRESS: its form, and whether a Ray cluster answers there. Nothing here imports Ray."""

import os
import socket

from fssplat.common.errors import InputError

ANSWER_S = 10.0  # that a cluster has to answer, per step
# The client's first bytes in HTTP/2, then an empty SETTINGS frame. A gRPC server, such as the one
# of Ray's head, answers with its own SETTINGS frame, whose fourth byte is 4 (RFC 9113, 3.4, 4.1).
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
FRAME_HEADER_BYTES = 9
SETTINGS = 4


def ray_address() -> str:
    """The cluster to join, from RAY_ADDRESS; empty if Ray is to start on this machine."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return "" if address == "local" else address


def check_address(address: str) -> None:
    """Raises InputError if `address` has another form than Ray's, or if no Ray answers there.

    Without this check `ray.init` waits for minutes in code that no signal interrupts.
    """
    if address == "auto":  # Ray looks for a cluster on this machine
        return
    host, port = host_and_port(address)
    try:
        with socket.create_connection((host, port), timeout=ANSWER_S) as connection:
            answers = bool(os.environ.get("RAY_USE_TLS", "0") != "0") or _answers(connection)
    except OSError as error:
        raise no_answer(address, error.strerror or str(error) or "no answer") from error
    if not answers:
        raise no_answer(address, "something else than Ray listens there, or it is silent")


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of an address. Raises InputError if it has another form."""
    if address.startswith("ray://"):
        raise InputError(
            f"RAY_ADDRESS={address}: Ray Client is not supported. Give the head's own host and "
            "port, e.g. RAY_ADDRESS=10.0.0.1:6379, or unset RAY_ADDRESS to run on this machine."
        )
    host, _, port = address.rpartition(":")
    plain = host.removeprefix("[").removesuffix("]")
    letters = set(plain) - set(".-_:%")
    named = bool(letters) and all(letter.isalnum() for letter in letters)
    if not named or not port.isdecimal() or not 0 < int(port[:9]) < 65536:
        raise InputError(
            f"RAY_ADDRESS={address}: not an address. Give host and port of a Ray head, "
            "e.g. RAY_ADDRESS=10.0.0.1:6379, or unset RAY_ADDRESS to run on this machine."
        )
    return plain, int(port)


def no_answer(address: str, reason: str) -> InputError:
    return InputError(
        f"RAY_ADDRESS={address}: no Ray cluster answers ({reason}). "
        "Start one with `ray start --head --port=6379`, or unset RAY_ADDRESS to run here."
    )


def _answers(connection: socket.socket) -> bool:
    """Whether a gRPC server is at the other end."""
    connection.settimeout(ANSWER_S)
    connection.sendall(GREETING)
    header = b""
    while len(header) < FRAME_HEADER_BYTES:
        part = connection.recv(FRAME_HEADER_BYTES - len(header))
        if not part:
            return False
        header += part
    return header[3] == SETTINGS
