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

import fssplat
from fssplat.common.errors import InputError
from fssplat.common.passwords import hidden
from fssplat.common.printing import command_line

OK, MISSING, PROBLEM = "ok", "missing", "problem"
OLDEST_PYTHON = (3, 11)
PACKAGES = ("ray", "mlflow", "optuna", "webdataset", "timm", "pydantic", "omegaconf")
TORCH_S = 75.0  # seconds until the process that tries the GPUs is ended
FREE_BYTES = 2_000_000_000


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
            wanted = f"{name}{_pinned(tested.get(name, ''))}"
            command = command_line([sys.executable, "-m", "pip", "install", wanted])
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
    """Whether Ray can make its sockets and logs in its folder."""
    from fssplat.launching.ray_faults import folder

    name, place = "Ray's folder", folder.ray_folder()
    try:
        folder.check_ray_folder(place)
    except InputError as error:
        return Found(PROBLEM, name, str(error))
    return writable(name, place, "Give another: export RAY_TMPDIR=<folder>")


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
    """Whether the services that environment variables name answer."""
    from fssplat.launching.ray_faults.address import check_address, ray_address

    if address := ray_address():
        try:
            check_address(address)
            found = "looked for when a launch starts" if address == "auto" else "a cluster answers"
            yield Found(OK, "RAY_ADDRESS", f"{address}: {found}")
        except InputError as error:
            yield Found(PROBLEM, "RAY_ADDRESS", str(error))
    if uri := os.environ.get("MLFLOW_TRACKING_URI", ""):
        try:
            from fssplat.tracking.server.checks import check_uri

            problem = check_uri(uri)
        except (InputError, ImportError) as error:  # ImportError: there is a line about MLflow
            problem = str(error)
        text = problem or f"{hidden(uri)}: can be used"
        yield Found(PROBLEM if problem else OK, "MLFLOW_TRACKING_URI", text)


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
        text = f"looked for in {places}{hint}. Where to get them: docs/weights.md"
        yield Found(OK, "weights", text)
    for name in BACKBONES:
        yield weights_of(name)


def weights_of(name: str) -> Found:
    """Whether a launch would take the weights of one backbone; it downloads nothing."""
    from fssplat.backbones.base import BackboneLayout
    from fssplat.backbones.weight_checks import check_weights, file_on_disk
    from fssplat.experiment.schema import BackboneSpec

    path = None
    try:
        path = file_on_disk(name)
        download = check_weights(BackboneSpec(name=name), BackboneLayout())
    except InputError as error:
        return Found(PROBLEM if path else MISSING, name, str(error))
    if path is None:
        return Found(MISSING, name, download)
    return Found(OK, name, f"{path}, {path.stat().st_size / 1e6:.0f} MB")


def data_sets() -> Iterator[Found]:
    """The built data sets, or how to build them."""
    from fssplat.data.index import read_info
    from fssplat.data.places import default_root
    from fssplat.experiment.datasets import BUILT_IN, INFO_FILE

    chosen = os.environ.get("FSSPLAT_DATA", "")
    hint = "" if chosen else "; FSSPLAT_DATA=<folder> chooses another"
    yield Found(OK, "data", f"looked for in {Path(default_root('')).absolute()}{hint}")
    for name in BUILT_IN:
        root = Path(default_root(name))

        def read(file: str, root: Path = root) -> bytes:
            return (root / file).read_bytes()

        try:
            info = read_info(read, str(root), name)
        except InputError as error:
            there = (root / INFO_FILE).exists()
            yield Found(PROBLEM if there else MISSING, name, str(error))
            continue
        images = ", ".join(f"{count} {split}" for split, count in info.counts.items())
        yield Found(OK, name, f"{root}: {images} images")
