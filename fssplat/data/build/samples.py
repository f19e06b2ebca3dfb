"""One image of a source -> its sample in a shard and its row of the index."""

import json
from typing import Any

import numpy as np

from fssplat.common.errors import InputError
from fssplat.common.file_kinds import regular
from fssplat.data.masks.labels import (
    IGNORE,
    UNREADABLE,
    Label,
    class_pixels,
    encode_label,
    image_size,
)
from fssplat.data.readers.pictures import upright_jpeg
from fssplat.data.shards import Member, Sample, digest_of
from fssplat.data.sources.record import BadSampleError, Record


def convert_record(record: Record, classes: int, binary: bool) -> tuple[Sample, dict[str, Any]]:
    """The sample and the index row, which has no member positions yet (see `add_positions`).

    `classes` is the number of classes; with `binary`, a label has only the values 0, 1 and 255.
    Raises BadSampleError if the image or its label cannot be used.
    """
    jpg, (height, width) = _read_image(record)
    label = record.label.read()
    pixels = _checked_pixels(record, label, (height, width), 1 if binary else classes)
    if binary:
        pixels = {record.object_class: pixels[1]} if pixels else {}
    details = {
        "key": record.key,
        "split": record.split,
        "origin": record.origin,
        "file": record.image.name,
        "height": height,
        "width": width,
        "object_class": record.object_class,
        "pixels": {str(class_id): count for class_id, count in pixels.items()},
    }
    row = {
        "key": record.key,
        "split": record.split,
        "height": height,
        "width": width,
        "object_class": record.object_class,
        "classes": list(pixels),
        "pixels": list(pixels.values()),
        "checksum": checksum(jpg, label),
    }
    text = json.dumps(details, separators=(",", ":")).encode()
    return Sample(record.key, jpg, encode_label(label), text), row


def checksum(jpg: bytes, label: Label) -> str:
    """Digest of the JPEG's bytes and the label's pixels.

    It does not depend on the PNG compressor.
    """
    return digest_of([jpg, repr(label.shape).encode(), np.ascontiguousarray(label).tobytes()])


def add_positions(row: dict[str, Any], members: dict[str, Member]) -> None:
    """Add offset and size of the row's three members, from the members of its shard by name."""
    for kind in ("jpg", "png", "json"):
        member = members[f"{row['key']}.{kind}"]
        row[f"{kind}_at"], row[f"{kind}_size"] = member.offset, member.size


def stored_jpeg(record: Record) -> bytes:
    """The bytes that a shard has of the image: the file's own, or another JPEG of an upright one.

    Raises OSError, and InputError for an upright image that cannot be decoded.
    """
    data = record.content or regular(record.image).read_bytes()
    return upright_jpeg(data, str(record.image)) if record.upright else data


def _read_image(record: Record) -> tuple[bytes, tuple[int, int]]:
    try:
        jpg = stored_jpeg(record)
        return jpg, image_size(jpg)
    except FileNotFoundError:
        raise BadSampleError(f"{record.image}: the image is missing") from None
    except InputError as error:
        raise BadSampleError(str(error).rstrip(".")) from error
    except UNREADABLE as error:
        raise BadSampleError(f"{record.image}: the image cannot be read ({error})") from error


def _checked_pixels(
    record: Record, label: Label, size: tuple[int, int], largest: int
) -> dict[int, int]:
    """Label value -> pixels. Raises BadSampleError for a wrong size or a value above `largest`."""
    file = record.label.files[0]
    if label.shape != size:
        shape = " x ".join(map(str, label.shape))
        turned = (
            ": one of them is turned (EXIF is not applied)" if label.shape == size[::-1] else ""
        )
        raise BadSampleError(
            f"{file}: the label of {record.key} is {shape} (height x width), the image "
            f"{record.image} is {size[0]} x {size[1]}{turned}"
        )
    pixels = class_pixels(label)
    outside = [value for value in pixels if value > largest]
    if outside:
        raise BadSampleError(
            f"{file}: the label of {record.key} has the value {outside[0]}; classes are 1 to "
            f"{largest}, 0 is background, {IGNORE} is ignored"
        )
    return pixels
