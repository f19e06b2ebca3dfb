"""Checkpoints: one safetensors file each, with a JSON header inside, written whole or not at all.

A file contains only what training changes: the head, the backbone if it is trained, BatchNorm
buffers if they are updated, the optimiser's slots, and every random state. Nothing is unpickled.
The header names the job, the method and the backbone, so that weights are never loaded into
another network unnoticed.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular, wrong_kind
from fssplat.common.whole_files import write_whole
from fssplat.methods.base import FewShotSegmenter

FORMAT = 1
KEPT = 2  # rolling checkpoints: the newest, and one to fall back to


@dataclass(frozen=True)
class Header:
    """Which training a checkpoint is of, and how many of its steps are done."""

    key: str  # of the job: names dataset, fold, method, backbone, schedule
    method: str
    backbone: str
    step: int  # finished optimiser steps
    steps: int  # of the whole training
    state: dict[str, Any] = field(default_factory=dict)  # JSON values that a resume needs


@dataclass(frozen=True)
class Checkpoint:
    """A header and its tensors; groups are the first part of a name, as in `optimizer/...`."""

    header: Header
    tensors: dict[str, Tensor]

    def group(self, name: str) -> dict[str, Tensor]:
        """Tensors of one group, by the rest of their name."""
        prefix = f"{name}/"
        return {
            key.removeprefix(prefix): value
            for key, value in self.tensors.items()
            if key.startswith(prefix)
        }


# ------------------------------------------------------------------ files


def save(path: Path, header: Header, tensors: dict[str, Tensor]) -> None:
    """Write atomically: temporary file, flush to disk, rename."""
    stored = {name: value.detach().cpu().contiguous() for name, value in sorted(tensors.items())}
    record = {**vars(header), "format": FORMAT, "crc32": crc32(stored)}
    text = {"fssplat": json.dumps(record, sort_keys=True)}
    write_whole(path, lambda temporary: save_file(_unshared(stored), temporary, metadata=text))


def load(path: Path) -> Checkpoint:
    """Read and check a file.

    Raises InputError for a pickle, a truncated file, or one that this program did not write.
    """
    header, crc = _header(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: truncated or damaged. Delete it and run again.") from error
    if crc32(dict(sorted(tensors.items()))) != crc:
        raise InputError(f"{path}: its checksum does not match. Delete it and run again.")
    return Checkpoint(header, tensors)


def identity(path: Path) -> tuple[Header, str]:
    """A file's header and checksum, without reading its tensors.

    Raises InputError like `load`.
    """
    header, crc = _header(path)
    return header, f"{crc:08x}"


def _header(path: Path) -> tuple[Header, int]:
    if not path.exists():
        raise InputError(f"{path}: no such checkpoint. Give a head.safetensors of a training.")
    try:
        with safe_open(regular(path), framework="pt") as file:
            record = json.loads((file.metadata() or {}).get("fssplat", "null"))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: {_wrong_format(path)}") from error
    if not isinstance(record, dict) or record.pop("format", None) != FORMAT:
        raise InputError(
            f"{path}: not a checkpoint of this program (format {FORMAT}). For other safetensors "
            "use `fssplat import-checkpoint --help`."
        )
    try:
        crc = record.pop("crc32")
        return Header(**record), int(crc)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: its header is not valid ({error}). Delete it and run again."
        ) from error


def _wrong_format(path: Path) -> str:
    """What is wrong with a file that is not safetensors, by its first bytes, and what to do."""
    try:
        wrong = wrong_kind(path)
    except OSError as error:
        return f"cannot be read ({error.strerror or error}). Give another file."
    if wrong:
        return wrong
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK" or (start[:1] == b"\x80" and start[1:] <= b"\x05"):
        return (
            "a pickle, which this program never opens. Checkpoints are safetensors; for weights of "
            "a public implementation use `fssplat import-checkpoint --help`."
        )
    return "not a complete safetensors file. Delete it and run again."


def crc32(tensors: dict[str, Tensor]) -> int:
    """Checksum of all bytes, in the order given."""
    value = 0
    for name, tensor in tensors.items():
        value = zlib.crc32(name.encode(), value)
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        value = zlib.crc32(flat.view(torch.uint8).numpy().data, value)
    return value


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share memory are copied: safetensors refuses aliases."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return result


# ------------------------------------------------------------------ a rolling folder


def save_rolling(folder: Path, header: Header, tensors: dict[str, Tensor]) -> Path:
    """Add `step-<n>.safetensors`; keep the newest two, so a damaged one has a predecessor."""
    path = folder / f"step-{header.step:09d}.safetensors"
    save(path, header, tensors)
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None. Damaged ones are deleted."""
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            return load(path)
        except InputError:
            path.unlink(missing_ok=True)  # else a later save would count it among the newest two
    return None


# ------------------------------------------------------------------ networks


def weights(network: FewShotSegmenter) -> dict[str, Tensor]:
    """The state that training changes, by its name in the network; no frozen backbone."""
    backbone = network.backbone
    updated = backbone.batch_statistics or not backbone.layout.frozen  # BatchNorm buffers
    parameters = dict(network.named_parameters())
    return {
        name: value
        for name, value in network.state_dict().items()
        if not name.startswith("backbone.")
        or (parameters[name].requires_grad if name in parameters else updated)
    }


def load_weights(network: FewShotSegmenter, checkpoint: Checkpoint, where: str) -> None:
    """Fill the network in place. Raises InputError if names or shapes differ from the network's."""
    own, given = weights(network), checkpoint.group("weights")
    _require_fit(
        {name: tuple(value.shape) for name, value in own.items()},
        {name: tuple(value.shape) for name, value in given.items()},
        where,
    )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(given[name])


def check_fit(path: Path, network: FewShotSegmenter) -> None:
    """Compare a file with a network that may be on device `meta`; reads names and shapes alone.

    Raises InputError as `load_weights` does.
    """
    _header(path)
    with safe_open(path, framework="pt") as file:
        given = {
            name.removeprefix("weights/"): tuple(file.get_slice(name).get_shape())
            for name in file.keys()  # noqa: SIM118
            if name.startswith("weights/")
        }
    own = {name: tuple(value.shape) for name, value in weights(network).items()}
    _require_fit(own, given, str(path))


def _require_fit(
    own: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]], where: str
) -> None:
    wrong = sorted(set(own) ^ set(given)) or sorted(n for n in own if own[n] != given[n])
    if wrong:
        raise InputError(
            f"{where}: its weights do not fit this network ({len(wrong)} differ, first "
            f"{wrong[0]}). The checkpoint is of other options or another backbone; train again."
        )


def check_owner(header: Header, wanted: Header, where: str) -> None:
    """Raises InputError if a checkpoint is of another method, backbone or job."""
    for what in ("method", "backbone", "key"):
        has, needs = getattr(header, what), getattr(wanted, what)
        if has != needs:
            raise InputError(
                f"{where}: checkpoint is for {what} {has}, expected {needs}. "
                "Give the right file, or another folder."
            )


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The optimiser's slots as `<parameter>|<slot>`; its settings come from the spec."""
    slots = optimizer.state_dict()["state"]
    return {
        f"{names[index]}|{slot}": value
        for index, state in slots.items()
        for slot, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]
) -> None:
    """Fill the slots of a freshly built optimiser over the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, slot = key.rpartition("|")
        state.setdefault(names.index(name), {})[slot] = value.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
