"""Label Studio's brush encoding, in both directions."""

import numpy as np
import pytest

from fssplat.data.readers.shapes.brush_runs import decode, encode


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_an_encoded_mask_is_decoded_to_the_same(share: float) -> None:
    inside = np.random.default_rng(1).random((37, 53)) < share
    assert (decode(encode(inside), 37, 53) == inside).all()


def test_a_run_longer_than_the_widest_count_is_split() -> None:
    inside = np.zeros((300, 400), dtype=bool)
    inside[10:290] = True
    assert (decode(encode(inside), 300, 400) == inside).all()


def test_values_that_do_not_repeat_are_read() -> None:
    """Two pixels, written by hand: 8 values of 8 bits in one block that repeats nothing."""
    bits = f"{8:032b}" + f"{7:05b}" + "".join(f"{width - 1:04b}" for width in (3, 4, 8, 16))
    bits += "0" + "00" + f"{8 - 1:03b}" + "".join(f"{v:08b}" for v in (1, 2, 3, 0, 4, 5, 6, 255))
    bits += "0" * (-len(bits) % 8)
    found = decode([int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)], 1, 2)
    assert found.tolist() == [[False, True]]


def test_damage_is_said() -> None:
    runs = encode(np.eye(8, dtype=bool))
    with pytest.raises(ValueError, match="its rle has 256 values; 8 x 9"):
        decode(runs, 8, 9)
    for cut in (2, 9, len(runs) - 1):
        with pytest.raises(ValueError, match=r"cut short|damaged"):
            decode(runs[:cut], 8, 8)
    with pytest.raises(ValueError, match="no byte"):
        decode([*runs, 300], 8, 8)
    with pytest.raises(ValueError, match="whole numbers"):
        decode(["x"], 8, 8)  # type: ignore[list-item]
