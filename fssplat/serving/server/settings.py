"""What a server is started with, and how much it accepts."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from fssplat.common.errors import InputError

PORT = 8321
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Limits:
    """What is refused, so that no request can use up the machine."""

    body_bytes: int = 48 * 2**20  # of one request
    bodies_bytes: int = 256 * 2**20  # of all requests that are being read or answered
    header_s: float = 10.0  # until the head of a request has arrived
    body_s: float = 60.0  # until its body has arrived
    pixels: int = 25_000_000  # of one picture
    pictures: int = 16  # to predict in one request
    supports: int = 100  # pictures of one set
    classes: int = 64  # of one set
    sets: int = 1000
    waiting_pixels: int = 250_000_000  # of decoded pictures in memory; then 503
    connections: int = 256
    together: int = 8  # pictures that one pass of the network may share


@dataclass(frozen=True)
class ServerSettings:
    """A server, before it runs."""

    model: str  # as `fssplat predict --model`
    store: str = "results"
    backbone: str = ""
    folder: Path = Path("supports")  # where registered supports are kept
    host: str = "127.0.0.1"
    port: int = PORT
    token: str = ""
    label_studio: str = ""  # address from which pictures of tasks may be fetched
    label_studio_key: str = field(default="", repr=False)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Raises InputError for an address that others can reach without a token."""
        if not self.token and not is_loopback(self.host):
            raise InputError(
                f"--host {self.host}: other machines can reach it, so a token is needed. Set "
                "FSSPLAT_TOKEN to a long random text, or leave out --host."
            )
        if self.token and (len(self.token) < 8 or not self.token.isascii()):
            raise InputError("the token needs 8 or more ASCII characters. Choose a longer one.")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
