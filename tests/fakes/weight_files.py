"""Backbone weights with the right names and shapes, whose zeros need no room on the disk."""

import json
import os
from pathlib import Path

import torch

from fssplat.backbones import BACKBONES
from fssplat.backbones.base import BackboneLayout


def write_weights(folder: Path, name: str) -> Path:
    """`<name>.safetensors` with zeros for a backbone of four stages."""
    with torch.device("meta"):
        state = BACKBONES[name](BackboneLayout()).state_dict()
    header, at = {}, 0
    for entry, value in state.items():
        kind = {torch.float32: "F32", torch.int64: "I64"}[value.dtype]
        end = at + value.numel() * value.element_size()
        header[entry] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        os.truncate(file.fileno(), 8 + len(text) + at)
    return path
