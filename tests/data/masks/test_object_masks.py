"""The rule for masks of one object: which values are the object, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.masks.object_masks import object_mask, objects_in

INSIDE = np.zeros((6, 8), dtype=np.uint8)
INSIDE[1:4, 2:6] = 1
BORDERED = INSIDE.copy()
BORDERED[4, 2:6] = 255


def coloured(inside: Any, background: Any, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(np.where(INSIDE[..., None], inside, background).astype(np.uint8), mode)


def indexed(label: Any, *colours: tuple[int, int, int]) -> Image.Image:
    """A palette picture whose first indices have these colours; all others are black."""
    picture = Image.fromarray(np.asarray(label, dtype=np.uint8), "P")
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def palette_of_voc(label: Any) -> Image.Image:
    from fssplat.data.sources.synthetic import voc_palette

    picture = Image.fromarray(np.asarray(label, dtype=np.uint8), "P")
    picture.putpalette(voc_palette())
    return picture


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
GOOD: dict[str, Any] = {
    "0 and 1": INSIDE,
    "0 and 255": INSIDE * 255,
    "0 and 17": INSIDE * 17,
    "bool": INSIDE == 1,
    "int64": INSIDE.astype(np.int64) * 255,
    "16 bits": INSIDE.astype(np.uint16) * 65_535,
    "float": INSIDE.astype(np.float32),
    "nested lists": INSIDE.tolist(),
    "one channel": INSIDE[..., None],
    "grey as RGB": np.stack([INSIDE * 255] * 3, axis=-1),
    "red on black": np.array(coloured(RED, BLACK)),
    "a picture of one bit": Image.fromarray(INSIDE * 255).convert("1"),
    "a grey picture": Image.fromarray(INSIDE * 255),
    "a picture of 16 bits": Image.fromarray(INSIDE.astype(np.uint16) * 1000),
    "black and white": coloured(WHITE, BLACK),
    "VOC's palette, class 1": palette_of_voc(INSIDE),
    "VOC's palette, class 15": palette_of_voc(INSIDE * 15),
    "a palette that starts with white": indexed(1 - INSIDE, WHITE, BLACK),
    "a palette without black": indexed(INSIDE, (68, 1, 84), (253, 231, 36)),
    "a palette of one colour": indexed(INSIDE, BLACK, BLACK),
    "cut out of a photo": np.dstack(
        [np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8), INSIDE * 255]
    ),
    "black on transparent": coloured((0, 0, 0, 255), (0, 0, 0, 0), "RGBA"),
    "white on transparent white": coloured((255, 255, 255, 255), (255, 255, 255, 0), "RGBA"),
    "opaque RGBA": coloured((255, 0, 0, 255), (0, 0, 0, 255), "RGBA"),
    "fully transparent RGBA": coloured((255, 0, 0, 0), (0, 0, 0, 0), "RGBA"),
    "grey with alpha": coloured((255, 255), (0, 0), "LA"),
}


@pytest.mark.parametrize("given", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("soft", [False, True])
def test_the_value_beside_0_is_the_object(given: Any, soft: bool) -> None:
    label = object_mask(given, "mask", soft=soft)
    assert label.dtype == np.uint8
    assert (label == INSIDE).all()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    "given", [BORDERED, Image.fromarray(BORDERED), palette_of_voc(BORDERED)], ids=["a", "L", "P"]
)
def test_beside_0_and_1_the_value_255_is_ignored(given: Any, soft: bool) -> None:
    assert (object_mask(given, "mask", soft=soft) == BORDERED).all()


def test_a_picture_is_read_from_its_file(tmp_path: Path) -> None:
    for name, picture in (("a.png", GOOD["VOC's palette, class 15"]), ("b.bmp", INSIDE * 255)):
        given = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        given.save(tmp_path / name)
        assert (object_mask(tmp_path / name, "mask") == INSIDE).all()


SMOOTH = INSIDE * 255
SMOOTH[0, 2:6] = 90
BAD: dict[str, tuple[Any, str]] = {
    "only 0": (INSIDE * 0, r"has the value 0 \(no object\)"),
    "only 1": (INSIDE * 0 + 1, r"has the value 1 \(no background\)"),
    "only 255": (INSIDE * 0 + 255, r"has the value 255 \(no background\)"),
    "1 and 255": (254 * INSIDE + 1, r"has the values 1, 255 \(no background\)"),
    "two objects": (np.arange(48).reshape(6, 8) % 3, r"has the values 0, 1, 2 \(several"),
    "0, 17 and 255": (np.where(BORDERED == 1, 17, BORDERED), r"the values 0, 17, 255 \(several"),
    "soft edges": (SMOOTH, r"has the values 0, 90, 255 \(several objects, or soft edges\)"),
    "many values": (np.arange(48).reshape(6, 8), r"0, 1, 2, 3, 4, 5 and 42 more \(several"),
    "probabilities": (INSIDE * 0.7, "values from 0.0 to 0.7, or fractions"),
    "nan": (np.where(INSIDE, np.nan, 0), "values from nan to nan, or fractions"),
    "negative": (-INSIDE.astype(np.int64), "values from -1 to 0"),
    "text": ("/etc/passwd", "the mask is <U11"),
    "nothing": (None, "the mask is object"),
    "empty": (np.zeros((0, 5)), r"the mask is float64 \[0, 5\]"),
    "five channels": (np.zeros((6, 8, 5)), r"\[6, 8, 5\]; needed are"),
    "ragged": ([[0, 1], [0]], "needed are whole numbers"),
    "two colours and alpha": (
        np.dstack([np.where(BORDERED[..., None] == 1, RED, BLACK), 255 * (np.arange(8) < 7)
                   + np.zeros((6, 8))]).astype(np.uint8),
        "both the colours of the mask and its alpha",
    ),
    "two colours, no black": (coloured(RED, WHITE), r"#ff0000, #ffffff \(no background\)"),
    "no picture": (Path("/nowhere/mask.png"), "the mask cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "message"), BAD.values(), ids=BAD)
def test_a_mask_that_is_not_of_one_object_is_one_line_with_its_values(
    given: Any, message: str
) -> None:
    with pytest.raises(InputError, match=f"^mask 3: .*{message}") as caught:
        object_mask(given, "mask 3")
    assert "\n" not in str(caught.value)


def test_soft_edges_are_cut_at_128_only_where_that_is_the_rule() -> None:
    grey = SMOOTH.copy()
    grey[0, 0], grey[0, 1] = 128, 127
    expected = INSIDE.copy()
    expected[0, 0] = 1
    assert (object_mask(grey, "mask", soft=True) == expected).all()
    noisy = INSIDE * 255
    noisy[5, 7] = 1  # beside black, not an object with a border of 255
    assert (object_mask(noisy, "mask", soft=True) == INSIDE).all()
    for dark in (INSIDE * 100 + (SMOOTH == 90), INSIDE * 0 + 200, INSIDE * 0):
        with pytest.raises(InputError, match="the mask has the value"):
            object_mask(dark, "mask", soft=True)


def test_one_of_several_objects_is_picked_by_its_value_or_its_colour() -> None:
    classes = INSIDE * 3
    classes[5] = 9
    assert (object_mask(classes, "mask", pick="3") == INSIDE).all()
    assert (object_mask(palette_of_voc(classes), "mask", pick="#808000") == INSIDE).all()
    with pytest.raises(InputError, match=r"no pixel of the mask is '4'\. Its values: 0, 3, 9\."):
        object_mask(classes, "mask", pick="4")


def test_several_objects_are_found_by_their_values() -> None:
    label = np.array([[0, 1, 2, 255]], dtype=np.uint8)
    found = objects_in(label, "mask")
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "1": [[0, 1, 0, 255]],
        "2": [[0, 0, 1, 255]],
    }
    assert list(objects_in(label[:, [0, 3]], "mask")) == ["255"]
    assert objects_in(label[:, :1], "mask") == {}
    assert list(objects_in(coloured(RED, BLACK), "mask")) == ["#ff0000"]
    assert list(objects_in(coloured((*RED, 255), (0, 0, 0, 0), "RGBA"), "mask")) == ["opaque"]


@pytest.mark.parametrize("values", [[[3, 4]], [list(range(100))]])
def test_objects_without_background_or_with_soft_edges_are_refused(values: Any) -> None:
    with pytest.raises(InputError, match=r"mask: the mask has the values"):
        objects_in(np.array(values, dtype=np.uint8), "mask")
