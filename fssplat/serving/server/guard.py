"""Refuse requests before they are read: no token, a foreign page, too large, too slow."""

import asyncio
import base64
import binascii
import contextlib
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fssplat.common.errors import InputError
from fssplat.serving.server.metrics import Metrics
from fssplat.serving.server.refusals import RefusedError, answer_of, busy
from fssplat.serving.server.settings import ServerSettings, is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = ("/", "/health", "/docs", "/openapi.json")  # and /page/...: nothing of a user is in them
DISCARDED = 4  # a body up to so many times the limit is read to its end before it is refused
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        b"frame-ancestors 'none'; form-action 'none'",
    ),
)


class Guard:
    """The outermost layer of the server."""

    def __init__(self, app: App, settings: ServerSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.reading = 0  # bytes of all bodies in memory

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # a WebSocket is closed by the server
        held = 0
        started = asyncio.get_running_loop().time()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *SECURITY]
            await send(message)

        try:
            headers = dict(scope["headers"])
            self._check_origin(headers)
            self._check_token(scope["path"], headers)
            body = await self._body(headers, receive)
            held = len(body)
            await self.app(scope, _replayed(body, receive), sending)
        except RefusedError as error:
            await _refuse(error, sending)
        finally:
            self.reading -= held
            seconds = asyncio.get_running_loop().time() - started
            self.metrics.answered(str(scope["path"]), status, seconds)

    # ------------------------------------------------------------------ who asks

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        """Pages of other sites run in the browsers of this machine, and can ask on loopback too.

        Without a token the name in the request must be that of this machine: another site's name
        may point to 127.0.0.1.
        """
        host = headers.get(b"host", b"").decode("latin-1")
        if not self.settings.token and not is_loopback(_hostname(host)):
            raise RefusedError(
                403, "FORBIDDEN", "the Host of the request is not this machine. Use 127.0.0.1."
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).netloc != host:
            raise RefusedError(403, "FORBIDDEN", "pages of other sites may not use this server.")

    def _check_token(self, path: str, headers: dict[bytes, bytes]) -> None:
        token = self.settings.token
        if not token or path in OPEN or path.startswith("/page/"):
            return
        if not any(hmac.compare_digest(one, token.encode()) for one in _tokens(headers)):
            raise RefusedError(
                401, "UNAUTHORIZED", "a token is needed: the header Token or Authorization: Bearer."
            )

    # ------------------------------------------------------------------ how much

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body. Raises RefusedError if it is too large or too slow."""
        limits = self.settings.limits
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limits.body_bytes:
            if declared.isdigit() and int(declared) <= DISCARDED * limits.body_bytes:
                await self._discard(receive)
            raise _too_large(limits.body_bytes)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "INVALID_INPUT", "the request was cut off.")
                    part = message.get("body", b"")
                    size += len(part)
                    self.reading += len(part)
                    parts.append(part)
                    if size > limits.body_bytes:
                        raise _too_large(limits.body_bytes)
                    if self.reading > limits.bodies_bytes:
                        raise busy("too many large requests at once")
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            self.reading -= size
            raise RefusedError(
                408, "TOO_SLOW", f"the request took over {limits.body_s:g} s to arrive."
            ) from None
        except BaseException:  # also a client that has gone, which cancels this task
            self.reading -= size
            raise

    async def _discard(self, receive: Receive) -> None:
        """Read a body without keeping it: many clients read no answer before they have sent all."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.limits.body_s):
                while (await receive()).get("more_body", False):
                    pass


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        413, "TOO_LARGE", f"a request may have {most // 2**20} MiB. Send fewer pictures at once."
    )


def _tokens(headers: dict[bytes, bytes]) -> list[bytes]:
    """Every token in the headers: Token, Bearer, Token in Authorization, or a Basic password."""
    found = [headers.get(b"token", b"")]
    kind, _, value = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() in (b"bearer", b"token"):
        found.append(value.strip())
    elif kind.lower() == b"basic":
        with contextlib.suppress(binascii.Error):
            found.append(base64.b64decode(value, validate=True).partition(b":")[2])
    return found


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for the application; afterwards only that the client has gone."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(error: InputError, send: Send) -> None:
    status, content = answer_of(error)
    headers = [(b"content-type", b"application/json")]
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="fssplat"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})
