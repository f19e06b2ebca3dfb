"""Open the file system behind an address such as s3://bucket/folder, with bounded waiting times."""

from typing import Any
from urllib.parse import unquote

CONNECT_S, READ_S = 5.0, 6.0  # a server that does not answer in time
ATTEMPTS = 3  # of one call; the last error is raised after less than 30 seconds


def filesystem(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path within it.

    `s3://key:secret@bucket` gives credentials, which fsspec itself would take for a bucket's name.
    Raises ImportError and ValueError as fsspec does, and OSError if a server does not answer.
    """
    import fsspec

    protocol = address.partition("://")[0]
    if protocol in ("s3", "s3a"):
        path, credentials = _without_credentials(address)
        limits = {"connect_timeout": CONNECT_S, "read_timeout": READ_S}
        config = {**limits, "retries": {"max_attempts": 0}}  # s3fs repeats calls, not botocore
        found, path = fsspec.core.url_to_fs(path, config_kwargs=config, **credentials)
        found.retries = ATTEMPTS
    elif protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=2 * READ_S)
        found, path = fsspec.core.url_to_fs(address, client_kwargs={"timeout": timeout})
    else:
        found, path = fsspec.core.url_to_fs(address)
    return found, str(path)


def _without_credentials(address: str) -> tuple[str, dict[str, str]]:
    """An s3 address without key and secret, and these as fsspec's options."""
    protocol, _, rest = address.partition("://")
    user, at, place = rest.rpartition("@")
    key, colon, secret = user.partition(":")
    if not at or not colon or "/" in key:  # an @ in a folder's name
        return address, {}
    return f"{protocol}://{place}", {"key": unquote(key), "secret": unquote(secret)}
