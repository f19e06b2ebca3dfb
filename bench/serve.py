"""Does a server stay fast, small and whole under load, hostile requests and kill -9?

    python bench/serve.py --requests 1000 --clients 16        prints each bar with its number

Starts `fssplat serve` with a method without training and random features on small pictures: what is
measured is the server, not the network.
"""

import argparse
import base64
import http.client
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Answer = tuple[int, dict[str, Any]]


class Server:
    """`fssplat serve` in a process of its own."""

    def __init__(self, folder: Path, model: str, token: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.token = token
        command = [sys.executable, "-m", "fssplat", "serve", "--model", model]
        command += ["--supports", str(folder / "supports"), "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL,
            env={**os.environ, "FSSPLAT_TOKEN": token},
        )  # fmt: skip
        while True:
            assert self.process.poll() is None, "the server has ended"
            try:
                self.ask("GET", "/health")
                break
            except OSError:
                time.sleep(0.2)

    def raw(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            named.setdefault("Token", self.token)
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body or None, named, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def ask(self, method: str, path: str, value: Any = None) -> Answer:
        body = b"" if value is None else json.dumps(value).encode()
        return self.raw(method, path, body, Content_Type="application/json")

    def memory(self) -> float:
        """MB that the process has in memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1000

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def write_model(folder: Path) -> Path:
    """A model with random features at a small size: its values do not change its time."""
    from fssplat.engine import checkpoint
    from fssplat.engine.device import CPU
    from fssplat.engine.network import fresh_network
    from fssplat.engine.predicting.model_files import WEIGHTS, save_model
    from fssplat.engine.random_state import kept_random_state
    from fssplat.experiment.checks.problems import validate
    from fssplat.experiment.expand import expand
    from fssplat.experiment.schema import ExperimentSpec
    from fssplat.methods import METHODS

    name = "efficientnet_lite0"
    values = {
        "name": "bench",
        "dataset": "pascal-5i",
        "backbones": {name: {"name": name, "weights": "random"}},
        "grid": {"method": ["prior"], "backbone": [name]},
        "training": {},
        "protocol": {"name": "fssplat", "size": 65},
    }
    (trial,) = expand(validate(ExperimentSpec, values, "bench"), METHODS)
    with kept_random_state(CPU):
        network = fresh_network(trial).eval()
    folder.mkdir()
    save_model(network, trial, folder)
    header = checkpoint.Header("bench", "prior", name, 0, 0)
    checkpoint.save(folder / WEIGHTS, header, checkpoint.weights(network))
    return folder


def picture(seed: int, side: int) -> str:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return text_of(small.resize((side, side), Image.Resampling.BICUBIC), "JPEG")


def text_of(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return base64.b64encode(buffer.getvalue()).decode()


def supports(side: int) -> dict[str, Any]:
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 255
    one = {"image": picture(0, side), "masks": {"object": text_of(Image.fromarray(mask))}}
    return {"images": [one]}


# ------------------------------------------------------------------ load


def load(server: Server, requests: int, clients: int, side: int) -> None:
    """Every client sends its next request as soon as it has the answer to the last one."""
    bodies = [{"supports": "a", "images": [picture(seed, side)]} for seed in range(1, 9)]
    seconds: list[float] = []
    memory: list[float] = []
    failed: list[Any] = []
    numbers = iter(range(requests))
    lock = threading.Lock()

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            started = time.perf_counter()
            try:
                status, answer = server.ask("POST", "/v1/predict", bodies[number % len(bodies)])
            except (OSError, http.client.HTTPException) as error:
                status, answer = 0, {"error": str(error)}
            with lock:
                seconds.append(time.perf_counter() - started)
                memory.append(server.memory())
                if status != 200:
                    failed.append((status, answer))

    for body in bodies:  # warm
        server.ask("POST", "/v1/predict", body)
    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - started
    quarter = max(1, requests // 4)
    first, last = statistics.mean(memory[:quarter]), statistics.mean(memory[-quarter:])
    median = statistics.median(seconds)
    p99 = sorted(seconds)[min(len(seconds) - 1, round(0.99 * len(seconds)))]
    print(f"{requests} requests from {clients} clients: {len(failed)} errors {failed[:1] or ''}")
    print(f"{requests / whole:.1f} requests/s, median {median:.3f} s, p99 {p99:.3f} s")
    print(f"p99 / median {p99 / median:.2f}")
    print(f"memory: first quarter {first:.0f} MB, last {last:.0f} MB, ratio {last / first:.3f}")


# ------------------------------------------------------------------ hostile requests


def bomb() -> str:
    """A PNG of 200 kB with 625 million pixels."""
    return text_of(Image.new("1", (25_000, 25_000)))


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def slow_loris(server: Server, body: bool) -> Answer:
    """A head that does not end, or a body that does not come; 400 if the server gives it up."""
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nToken: {server.token}\r\n"
        slow.sendall((head + ("Content-Length: 99\r\n\r\n{" if body else "X-")).encode())
        slow.settimeout(90)
        try:
            first = slow.recv(100)
        except ConnectionError:
            first = b""
    return (408 if first.startswith(b"HTTP/1.1 408") or not first else 500), {}


def hostile(server: Server) -> dict[str, Callable[[], Answer]]:
    """20 requests that must be refused."""
    small = picture(0, 32)

    def predict(**changes: Any) -> Callable[[], Answer]:
        given = {"supports": "a", "images": [small], **changes}
        return lambda: server.ask("POST", "/v1/predict", given)

    def archive(data: bytes) -> Callable[[], Answer]:
        return lambda: server.raw("PUT", "/v1/supports/z", data, Content_Type="application/zip")

    huge = b'{"supports": "a", "images": ["' + b"A" * (60 * 2**20) + b'"]}'
    deep = b"[" * 500_000 + b"]" * 500_000
    json_type = {"Content_Type": "application/json"}
    return {
        "bomb as a query": predict(images=[bomb()]),
        "bomb as a support": lambda: server.ask(
            "PUT", "/v1/supports/z", {"images": [{"image": bomb(), "masks": {"a": small}}]}
        ),
        "bomb in an archive": archive(zipped("a.png", b"\0" * 300_000_000)),
        "path out of an archive": archive(zipped("../../x.png", b"x")),
        "damaged archive": archive(b"PK\3\4 no archive"),
        "path as a name": lambda: server.ask("PUT", "/v1/supports/..%2f..%2fx", supports(32)),
        "path as supports": predict(supports="../../etc/passwd"),
        "path as a model": predict(model="../../etc/passwd"),
        "address as a model": predict(model="models:/m-0"),
        "number as a picture": predict(images=[7]),
        "text as pictures": predict(images="a"),
        "no picture": predict(images=["aGFsbG8="]),
        "too many pictures": predict(images=[small] * 100),
        "unknown field": predict(command="rm"),
        "threshold that is no number": predict(threshold="high"),
        "huge JSON": lambda: server.raw("POST", "/v1/predict", huge, **json_type),
        "deep JSON": lambda: server.raw("POST", "/v1/predict", deep, **json_type),
        "no token": lambda: server.raw("GET", "/v1/models", Token="wrong"),
        "head that does not end": lambda: slow_loris(server, body=False),
        "body that does not come": lambda: slow_loris(server, body=True),
    }


def attack(server: Server) -> None:
    before = server.ask("GET", "/v1/supports/a")
    first = server.memory()
    refused = 0
    requests = hostile(server)
    for name, request in requests.items():
        try:
            status, _ = request()
        except (OSError, http.client.HTTPException):
            status = 400  # the connection was closed while the body was being sent
        if 400 <= status < 500:
            refused += 1
        else:
            print(f"{name}: answered with {status}")
    unharmed = server.ask("GET", "/v1/supports/a") == before
    unharmed &= server.ask("GET", "/v1/supports")[1]["supports"] == ["a"]
    print(f"{refused} of {len(requests)} hostile requests refused, supports unharmed: {unharmed}")
    print(f"memory before {first:.0f} MB, after {server.memory():.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--side", type=int, default=64, help="of the pictures, pixels")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = str(write_model(folder / "model"))
        server = Server(folder, model)
        status, registered = server.ask("PUT", "/v1/supports/a", supports(given.side))
        assert status == 200, registered
        try:
            load(server, given.requests, given.clients, given.side)
        finally:
            server.kill()
        server = Server(folder, model, token="a-long-random-text")
        try:
            again = server.ask("GET", "/v1/supports/a")[1]
            print(f"kill -9 and restart: supports kept: {again == registered}")
            attack(server)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
