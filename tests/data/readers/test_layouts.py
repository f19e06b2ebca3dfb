"""Every layout gives the same mask, and each fault is one line that names the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fssplat.common.errors import InputError
from fssplat.data.readers.layouts import find_layout, read_layout
from fssplat.data.readers.record import LoadedImage, load
from tests.data.readers.layouts import (
    HEIGHT,
    MASK_FILES,
    WIDTH,
    WRITERS,
    annotation_of,
    picture_of,
    true_mask,
    written,
)

RELATIVE = ("yolo",)  # layouts that name no size
EMPTY = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)


def loaded(path: Path) -> LoadedImage:
    (one,) = read_layout(path, find_layout(path))
    return load(one)


def refused(path: Path) -> str:
    """The message; it is one line that starts with a file or folder that exists or is missing."""
    with pytest.raises(InputError) as caught:
        loaded(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path.parent if path.is_file() else path))
    return text


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_gives_the_same_mask(name: str, tmp_path: Path) -> None:
    found = loaded(written(name, tmp_path))
    (mask,) = found.masks.values()
    assert (mask == true_mask()).all()
    assert found.pixels.shape == (HEIGHT, WIDTH, 3)
    unnamed = {"pairs": "255", "folders": "1"}
    assert list(found.masks) == [unnamed.get(name, "cat")]


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in RELATIVE])
def test_a_wrong_size_is_refused_with_both_sizes(name: str, tmp_path: Path) -> None:
    text = refused(written(name, tmp_path, size=(HEIGHT - 8, WIDTH)))
    assert f"{HEIGHT - 8} x {WIDTH}" in text
    assert f"{HEIGHT} x {WIDTH}" in text


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_picture_is_named(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    picture_of(tmp_path).unlink()
    with pytest.raises(InputError, match=r"(the image is missing|no picture|no annotations)"):
        loaded(path)


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_annotation_is_named(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    annotation_of(tmp_path).unlink()
    with pytest.raises(
        InputError, match=r"(no such file|no annotations that are known|no picture|no mask)"
    ):
        loaded(path)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("cut", ["picture", "annotation"])
def test_a_file_that_is_cut_short_is_named(name: str, cut: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    damaged = picture_of(tmp_path) if cut == "picture" else annotation_of(tmp_path)
    content = damaged.read_bytes()[: -damaged.stat().st_size // 3]
    damaged.write_bytes(content if damaged.suffix != ".txt" else b"\xff" + content)
    with pytest.raises(InputError) as caught:
        loaded(path)
    assert str(damaged) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_mask_is_no_object(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path, mask=EMPTY)
    if name.startswith("label studio"):
        with pytest.raises(InputError, match="no annotated task"):
            loaded(path)
    else:
        assert not any(mask.any() for mask in loaded(path).masks.values())


@pytest.mark.parametrize("name", MASK_FILES)
def test_a_coloured_mask_is_a_class_for_each_colour(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    colours = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    colours[:10] = (255, 0, 0)
    colours[20:] = (0, 255, 0)
    Image.fromarray(colours).save(annotation_of(tmp_path))
    if name == "voc":  # its masks are indices, unless labelmap.txt has colours
        assert "the mask is RGB; needed are grey values or palette" in refused(path)
        (tmp_path / "labelmap.txt").write_text("# name:r,g,b::\ncat:255,0,0::\ndog:0,255,0::\n")
        assert list(loaded(path).masks) == ["dog", "cat"]
        return
    masks = loaded(path).masks
    assert list(masks) == ["#00ff00", "#ff0000"]
    assert (masks["#ff0000"] == (colours[..., 0] > 0)).all()


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in RELATIVE])
def test_a_photograph_is_turned_with_what_was_marked_in_it(name: str, tmp_path: Path) -> None:
    """The annotation is of the stored pixels; both are shown turned to the right by 90 degrees."""
    path = written(name, tmp_path)
    file = picture_of(tmp_path)
    with Image.open(file) as stored:
        exif = stored.getexif()
        exif[0x0112] = 6
        stored.save(file, exif=exif, quality=95)
    found = loaded(path)
    (mask,) = found.masks.values()
    assert found.pixels.shape == (WIDTH, HEIGHT, 3)
    assert (mask == np.rot90(true_mask(), -1)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_shown_as_pillow_shows_it(orientation: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    from fssplat.data.readers.pictures import read_picture
    from tests.data.readers.layouts import picture

    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(path, exif=exif)
    with Image.open(path) as stored:
        expected = np.array(ImageOps.exif_transpose(stored))
    assert (read_picture(path, "a").pixels == expected).all()


def test_two_layouts_in_a_folder_ask_for_a_choice(tmp_path: Path) -> None:
    written("pairs", tmp_path)
    written("labelme", tmp_path)
    with pytest.raises(InputError, match="Choose one with --layout labelme or --layout pairs"):
        find_layout(tmp_path)
    assert find_layout(tmp_path, "pairs") == "pairs"
    with pytest.raises(InputError, match=r"--layout pair: unknown\. Did you mean pairs"):
        find_layout(tmp_path, "pair")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no annotations that are known"):
        find_layout(tmp_path / "empty")
