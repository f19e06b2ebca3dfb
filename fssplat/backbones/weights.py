"""Where backbone weights come from: a local file, a public address, or the seed.

`auto` looks for <name>.safetensors, .pth or .pt in $FSSPLAT_WEIGHTS and in ./weights, then at the
public address. Reading a file runs no code from it: safetensors, or a pickle with only tensors.
"""

import hashlib
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import wrong_kind

PUBLIC_HASH = re.compile(
    r"-([0-9a-f]{8})\.pth$"
)  # file names contain the first digits of the SHA-256
SUFFIXES = (".safetensors", ".pth", ".pt")
WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys of a mapping around the tensors
DROPPED = ("fc.", "classifier.", "head.")  # ImageNet classifiers, which no method uses


def require_file(path: Path) -> None:
    """Raises InputError for a missing file, a folder, a web page or a git-LFS pointer."""
    if not path.exists():
        raise InputError(f"{path}: no such weight file. Give a .safetensors or .pth file.")
    try:
        wrong = wrong_kind(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}). Give another file."
        ) from error
    if wrong:
        raise InputError(f"{path}: not a readable weight file: it {wrong}")


def read_state(path: Path | str, values: bool = True) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors or .pth file; `module.` prefixes and wrappers removed.

    Tensors have no values (device `meta`) if `values` is False, which reads little of the file.
    Raises InputError if the file is missing, damaged, or a pickle that would run code.
    """
    path = Path(path)
    require_file(path)
    try:
        content: Any = _load(path) if values else _load_names(path)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: contains more than tensors, and loading it could run code. "
            f"Save its state_dict alone: torch.save(model.state_dict(), ...)."
        ) from error
    except Exception as error:  # other files raise many kinds of errors in the pickle reader
        raise InputError(
            f"{path}: not a readable weight file. Copy or download it again."
        ) from error
    return bare_state(content, str(path))


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols; refused files raise an error
        return torch.load(path, map_location="cpu", weights_only=True)


def _load_names(path: Path) -> Any:
    """As `_load`, on device `meta`. A file of PyTorch before 1.6 is read whole."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapped = zipfile.is_zipfile(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    return _without_values(content)


def _without_values(content: Any) -> Any:
    if isinstance(content, Tensor):
        return torch.empty_like(content, device="meta")
    if isinstance(content, Mapping):
        return {name: _without_values(value) for name, value in content.items()}
    return content


def bare_state(content: Any, where: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, without mappings around them and DataParallel's prefix.

    Raises InputError if it is not a mapping of names to tensors.
    """
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )
    if not tensors or not content:
        raise InputError(f"{where}: contains no named tensors. A state_dict is needed.")
    return {name.removeprefix("module."): value for name, value in content.items()}


def local_file(name: str) -> Path | None:
    """The user's own file for a backbone, if there is one."""
    for folder in search_folders():
        for suffix in SUFFIXES:
            path = folder / f"{file_stem(name)}{suffix}"
            if path.is_file():
                return path
    return None


def content(name: str, given: str, url: str) -> str:
    """First digits of the SHA-256 of a backbone's weight file, local or public.

    Empty if the file is not known in advance: random values, and files that a library downloads.
    """
    if given == "random":
        return ""
    path = Path(given) if given != "auto" else local_file(name)
    if path is not None and path.is_file():
        stat = path.stat()
        return _digits(path.absolute(), stat.st_size, stat.st_mtime_ns)
    public = PUBLIC_HASH.search(url)
    return public[1] if given == "auto" and public else ""


@lru_cache(maxsize=32)
def _digits(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def search_folders() -> list[Path]:
    chosen = os.environ.get("FSSPLAT_WEIGHTS", "")
    return ([Path(chosen)] if chosen else []) + [Path("weights")]


def file_stem(name: str) -> str:
    """`timm:resnet18` -> `timm_resnet18`, a valid file name everywhere."""
    return name.replace(":", "_").replace("/", "_")


def missing(name: str, reason: str) -> InputError:
    """The error for weights that are not on this machine and cannot be downloaded."""
    folder = os.environ.get("FSSPLAT_WEIGHTS") or "weights"
    return InputError(
        f"backbone {name}: {reason}. Put its ImageNet state_dict at "
        f"{Path(folder) / file_stem(name)}.pth (folder: $FSSPLAT_WEIGHTS or ./weights), "
        f"or set backbones.{name}.weights to a path or to random."
    )


def downloaded_file(url: str) -> Path | None:
    """The file of an earlier `download`, if there is one."""
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    return path if path.is_file() else None


def download(name: str, url: str) -> dict[str, Tensor]:
    """Download a public state_dict into torch's hub folder; its name contains the hash to check."""
    try:
        state = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise missing(name, f"no local file, and {url} cannot be reached") from error
    return bare_state(state, url)


def fill(network: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load entries by name; others (classifier, stages that were not built) are ignored.

    Raises InputError if an entry is missing or has another shape.
    """
    wanted = network.state_dict()
    given = {}
    for name, old in wanted.items():
        if name in state:
            given[name] = state[name].detach().to(old.dtype)
        elif name.endswith("num_batches_tracked"):  # absent from files older than PyTorch 0.4.1
            given[name] = torch.zeros((), dtype=torch.int64)
    absent = sorted(wanted.keys() - given.keys())
    if absent:
        raise InputError(
            f"{where}: not weights of this backbone; {len(absent)} of {len(wanted)} entries are "
            f"missing, e.g. {', '.join(absent[:3])}. Give the file of the same architecture."
        )
    for name, value in given.items():
        if value.shape != wanted[name].shape:
            raise InputError(
                f"{where}: {name} is {list(value.shape)}, the backbone has "
                f"{list(wanted[name].shape)}. Give the file of the same architecture."
            )
    network.load_state_dict(given, assign=True)
