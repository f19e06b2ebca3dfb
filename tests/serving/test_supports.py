"""Supports of a model: by class, from several places, and what cannot be one."""

import json
from pathlib import Path

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.readers.class_choice import parsed_choice
from fssplat.serving.supports import read_supports
from tests.data.readers.layouts import (
    HEIGHT,
    WIDTH,
    save_mask,
    save_picture,
    true_mask,
    write_json,
    written,
)


def test_places_of_several_layouts_give_one_set(tmp_path: Path) -> None:
    places = [written("coco polygon", tmp_path / "a"), written("cvat mask", tmp_path / "b")]
    found = read_supports(places)
    assert list(found.classes) == ["cat"]
    assert [one.mask.tolist() for one in found.classes["cat"]] == [true_mask().tolist()] * 2
    assert found.notes[0].endswith("COCO JSON, 1 image")
    assert found.notes[2] == "cat: 2 supports"
    assert read_supports(places, shots=1).names == {"cat": ("a.jpg",)}
    assert read_supports(places).key == found.key != read_supports(places[:1]).key


def test_a_mask_without_an_object_is_named_with_its_values(tmp_path: Path) -> None:
    path = written("pairs", tmp_path)
    save_picture(path / "b.jpg")
    save_mask(path / "b.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    with pytest.raises(InputError, match=r"b\.png: the mask has only the value 0 \(no object\)"):
        read_supports(path)
    with pytest.raises(InputError, match="no image has a region"):
        read_supports(written("yolo", tmp_path / "yolo", mask=np.zeros_like(true_mask())))


def test_values_of_one_name_are_joined(tmp_path: Path) -> None:
    path = written("pairs", tmp_path)
    both = true_mask() * 3
    both[0, :5] = 4
    save_mask(path / "a.png", both)
    found = read_supports(path, parsed_choice(["3=cat", "4=cat"]))
    assert (found.classes["cat"][0].mask == (both > 0)).all()
    assert found.notes[1] == "cat: 1 support; in the masks 0 is background and 3, 4 is cat"


def test_an_archive_may_name_no_file_outside_of_it(tmp_path: Path) -> None:
    path = written("coco polygon", tmp_path / "refs")
    assert read_supports(path, within=tmp_path / "refs").names == {"cat": ("a.jpg",)}
    content = json.loads(path.read_text())
    save_picture(tmp_path / "there.jpg")
    for name in ("there", "not-there"):
        content["images"][0]["file_name"] = f"../{name}.jpg"
        write_json(path, content)
        with pytest.raises(InputError, match=rf"{name}\.jpg, which is outside of the archive"):
            read_supports(path, within=tmp_path / "refs")
