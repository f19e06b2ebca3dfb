"""Fetch the pictures of tasks from the one Label Studio that the server was started for."""

import json
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urljoin, urlsplit

from fssplat.common.errors import InputError
from fssplat.common.json_files import json_object
from fssplat.serving.server.pictures import from_text
from fssplat.serving.server.settings import ServerSettings

TIMEOUT_S = 20


class SameServer(urllib.request.HTTPRedirectHandler):
    """Follows redirects within one server alone: the key must not go elsewhere."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            raise InputError(f"{req.full_url}: it is redirected to another server.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class TaskFiles:
    """Pictures of tasks by their addresses."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.base = settings.label_studio.rstrip("/")
        self._key = settings.label_studio_key
        self._lock = threading.Lock()
        self._opener = urllib.request.build_opener(SameServer())

    def take_key(self, key: str) -> None:
        """The key that Label Studio sends when a project is connected, unless one was given."""
        with self._lock:
            if key and not self.settings.label_studio_key:
                self._key = key

    def fetch(self, address: str, where: str) -> bytes:
        """The bytes of a picture.

        Raises InputError if its address is not below the server's Label Studio, it cannot be
        fetched, or it is too large.
        """
        if address.startswith("data:"):
            return from_text(address, where)
        if not self.base:
            raise InputError(
                f"{where}: its picture has to be fetched. Start the server with --label-studio and "
                "the address of Label Studio."
            )
        full = urljoin(self.base + "/", address)
        if urlsplit(full)[:2] != urlsplit(self.base)[:2]:
            raise InputError(f"{where}: its picture is not at {self.base}. Upload it there.")
        return self._get(full, where)

    def _get(self, address: str, where: str) -> bytes:
        most = self.settings.limits.body_bytes
        try:
            request = urllib.request.Request(address, headers=self._authorization())
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                data: bytes = answer.read(most + 1)
        except urllib.error.HTTPError as error:
            hint = " Set LABEL_STUDIO_API_KEY to a key of it." if error.code in (401, 403) else ""
            raise InputError(f"{where}: {address} answers {error.code}.{hint}") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{where}: {address} cannot be fetched ({error}).") from error
        if len(data) > most:
            raise InputError(f"{where}: its picture has over {most // 2**20} MiB.")
        return data

    def _authorization(self) -> dict[str, str]:
        """A plain key is sent as it is; a personal access token is exchanged for a short one."""
        key = self._key
        if not key:
            return {}
        if key.count(".") != 2:
            return {"Authorization": f"Token {key}"}
        request = urllib.request.Request(
            f"{self.base}/api/token/refresh",
            json.dumps({"refresh": key}).encode(),
            {"Content-Type": "application/json"},
        )
        with self._opener.open(request, timeout=TIMEOUT_S) as answer:
            access = json_object(answer.read(100_000)).get("access", "")
        return {"Authorization": f"Bearer {access}"}
