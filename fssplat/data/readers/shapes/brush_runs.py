"""Label Studio's own run-length encoding of brush masks, in both directions.

A stream of bits, highest first: the number of values (32 bits), bits per value - 1 (5), and four
bits-per-count - 1 (4 each). Then blocks: 1 bit, whether the block repeats one value; 2 bits, which
of the four counts' widths; the count - 1; one value, or `count` values. The values are RGBA, row by
row, and a pixel is painted if its A is not 0.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fssplat.data.readers.shapes.coco_shapes import Inside

WIDTHS = (3, 4, 8, 16)  # bits per count that we write
Bits = npt.NDArray[np.uint8]


def decode(runs: Sequence[int], height: int, width: int) -> Inside:
    """Bytes as whole numbers -> bool [height, width].

    Raises ValueError for bytes that are damaged or of another size.
    """
    if not all(type(value) is int for value in runs):
        raise ValueError("its rle is not a list of whole numbers")
    if not all(0 <= value <= 255 for value in runs):
        raise ValueError("its rle has a value that is no byte")
    bits = np.unpackbits(np.array(runs, dtype=np.uint8))
    if len(bits) < 53:
        raise ValueError("its rle is cut short")
    count = _number(bits[:32])
    if count != height * width * 4:
        raise ValueError(
            f"its rle has {count} values; {height} x {width} (height x width) needs "
            f"{height * width * 4}"
        )
    value_bits = _number(bits[32:37]) + 1
    counts = [_number(bits[at : at + 4]) + 1 for at in range(37, 53, 4)]
    values = np.empty(count, dtype=np.uint32)
    done, at = 0, 53
    while done < count:
        if at + 3 > len(bits):
            raise ValueError("its rle is cut short")
        repeats, width_bits = bits[at], counts[_number(bits[at + 1 : at + 3])]
        at += 3
        length = _number(bits[at : at + width_bits]) + 1
        at += width_bits
        stored = 1 if repeats else length
        end = at + stored * value_bits
        if end > len(bits) or done + length > count:
            raise ValueError("its rle is damaged")
        block = bits[at:end].reshape(stored, value_bits)
        values[done : done + length] = block @ (1 << np.arange(value_bits)[::-1])
        done, at = done + length, end
    inside: Inside = values.reshape(height, width, 4)[..., 3] != 0
    return inside


def encode(inside: Inside) -> list[int]:
    """bool [height, width] -> bytes as whole numbers."""
    flat = inside.ravel()
    bits = [*_bits(flat.size * 4, 32), *_bits(7, 5)]
    for width in WIDTHS:
        bits += _bits(width - 1, 4)
    edges = np.flatnonzero(np.diff(flat.view(np.int8), prepend=flat[:1].view(np.int8))) * 4
    ends = [*edges.tolist(), flat.size * 4]
    start = 0
    for end in ends:
        for length in _pieces(end - start):
            index = next(i for i, width in enumerate(WIDTHS) if length <= 1 << width)
            bits += [1, *_bits(index, 2), *_bits(length - 1, WIDTHS[index])]
            bits += [int(flat[start // 4])] * 8
        start = end
    return [int(byte) for byte in np.packbits(np.array(bits, dtype=np.uint8))]


def _pieces(length: int) -> Iterator[int]:
    most = 1 << WIDTHS[-1]
    while length > 0:
        yield min(length, most)
        length -= most


def _number(bits: Bits) -> int:
    value = 0
    for bit in bits.tolist():
        value = value << 1 | bit
    return value


def _bits(value: int, width: int) -> list[int]:
    return [value >> shift & 1 for shift in range(width - 1, -1, -1)]
