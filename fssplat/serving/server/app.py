"""The server: its routes, the guard around them, and how it is run."""

import asyncio
from importlib import resources
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from fssplat import __version__
from fssplat.common.errors import InputError
from fssplat.serving.server.guard import Guard
from fssplat.serving.server.protocols import label_studio
from fssplat.serving.server.refusals import answer_of, not_found
from fssplat.serving.server.routes import router
from fssplat.serving.server.services import Services

PAGE_FILES = {
    "index.html": "text/html",
    "docs.html": "text/html",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "canvas.js": "text/javascript",
    "docs.js": "text/javascript",
    "zip.js": "text/javascript",
}


def make_app(services: Services) -> Guard:
    """The whole server as an ASGI application."""
    app = FastAPI(title="fssplat", version=__version__, docs_url=None, redoc_url=None)
    app.include_router(router(services))
    app.include_router(label_studio.router(services))
    _add_pages(app, services)
    app.add_exception_handler(InputError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    return Guard(app, services.settings, services.metrics)


def _add_pages(app: FastAPI, services: Services) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_file("index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page_file("docs.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return page_file(name)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the server answers. `UP` is what Label Studio expects."""
        return {"status": "UP", "model": services.network.model.name, "version": __version__}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return PlainTextResponse(services.metrics.text(), media_type="text/plain; version=0.0.4")


def page_file(name: str) -> Response:
    """A file of the page. Raises RefusedError for another name."""
    if name not in PAGE_FILES:
        raise not_found(f"page/{ascii(name)[:80]}: no such file.")
    content = (resources.files("fssplat.serving.server") / "page" / name).read_bytes()
    return Response(content, media_type=PAGE_FILES[name], headers={"cache-control": "no-cache"})


# ------------------------------------------------------------------ errors


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, InputError)
    status, content = answer_of(error)
    return JSONResponse(content, status)


async def _invalid(request: Request, error: Exception) -> Response:
    """The first fault of a request's JSON in one line; its values are not repeated."""
    assert isinstance(error, RequestValidationError | ValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")[:100]
    line = f"{place}: {first['msg']}." if place else f"the body: {first['msg']}."
    return await _refused(request, InputError(line))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    content = {"code": "HTTP_ERROR", "message": str(error.detail)}
    return JSONResponse({"success": False, "error": content}, error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    content = {"code": "INTERNAL", "message": f"{type(error).__name__}: see the server's output."}
    return JSONResponse({"success": False, "error": content}, 500)


# ------------------------------------------------------------------ run


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection if the head of a request does not arrive in time."""

    header_s = 10.0
    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._closing = self.loop.call_later(self.header_s, self._close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waits = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if not waits and self._closing is not None:
            self._closing.cancel()
            self._closing = None
        elif waits and self._closing is None:
            self._closing = self.loop.call_later(self.header_s, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        super().connection_lost(exc)

    def _close(self) -> None:
        self.transport.close()


def make_server(services: Services) -> uvicorn.Server:
    """The server, before it runs."""
    settings = services.settings
    protocol = type("Protocol", (TimedProtocol,), {"header_s": settings.limits.header_s})
    config = uvicorn.Config(
        make_app(services),
        host=settings.host,
        port=settings.port,
        http=protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=settings.limits.connections,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def serve_forever(services: Services) -> None:
    """Answer until the process is ended."""
    try:
        make_server(services).run()
    finally:
        services.network.close()


def address_of(host: str, port: int) -> str:
    """The address of the page."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
