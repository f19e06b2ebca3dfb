import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fssplat.data.augmentation import Canvas, Change, augment, blurred, draw_change
from fssplat.data.episodes.seeded_draws import stream
from fssplat.data.transforms import FILL, content_box, fit, fit_image, normalise
from fssplat.experiment.schema import AugmentSpec

STILL = Change(scale=1.0, degrees=0.0, blur=False, flip=False)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Red grows to the right, green downwards: a pixel tells where it came from."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 2, y * 2, np.full_like(x, 50)], axis=2).astype(np.uint8)


def test_normalising_takes_out_the_mean_and_the_deviation() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    found = normalise(images)[:, :, 0, 0]
    assert found[0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    assert found[1].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])
    assert normalise(torch.tensor(FILL, dtype=torch.uint8).view(3, 1, 1)).abs().max() < 0.02


# ---------------------------------------------------------------- one size for all


def test_pfenets_validation_size_is_floored_to_multiples_of_8(shared: Path) -> None:
    case = json.loads((shared / "parity/cases/metrics.json").read_text())
    for pair, wanted in case["expected"]["pfenet_val_resize_content_h_w"].items():
        source, size = pair.split(" to ")
        height, width = map(int, source.split("x"))
        assert list(content_box(height, width, int(size), "pad-floor8")) == wanted


def test_the_content_of_a_square_keeps_the_aspect_or_fills_it() -> None:
    assert content_box(375, 500, 473, "pad") == (355, 473)
    assert content_box(500, 375, 473, "pad") == (473, 355)
    assert content_box(375, 500, 400, "squash") == (400, 400)
    assert content_box(375, 500, 400, "original") == (375, 500)
    assert content_box(1, 5000, 100, "pad") == (1, 100)


def test_padding_is_ignored_in_the_label_and_has_the_mean_colour() -> None:
    image, label, box = fit(noise(20, 40), np.ones((20, 40), np.uint8), 40, "pad")
    assert box == (20, 40)
    assert (image[:20] == noise(20, 40)).all()  # nothing to resize
    assert (image[20:] == FILL).all()
    assert (label[:20] == 1).all()
    assert (label[20:] == 255).all()
    black = fit_image(noise(20, 40), 40, "pad-floor8")
    assert (black[16:] == 0).all()


def test_squashing_agrees_with_pillow_and_torch_nearest() -> None:
    """HSNet's code resizes images by Pillow and masks by torch's nearest."""
    image, label = noise(37, 53), noise(37, 53, 1)[..., 0]
    found, found_label, _ = fit(image, label, 40, "squash")
    by_pillow = np.asarray(Image.fromarray(image).resize((40, 40), Image.Resampling.BILINEAR))
    assert np.abs(found.astype(int) - by_pillow).max() <= 1
    planes = torch.from_numpy(label)[None, None].float()
    by_torch = torch.nn.functional.interpolate(planes, (40, 40), mode="nearest")[0, 0]
    assert (found_label == by_torch.numpy()).all()


def test_the_original_size_changes_nothing() -> None:
    image, label = noise(7, 9), noise(7, 9)[..., 0]
    found, found_label, box = fit(image, label, 40, "original")
    assert (found == image).all()
    assert (found_label == label).all()
    assert box == (7, 9)


# ---------------------------------------------------------------- the canvas


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Four neighbours of a point in pixels from the corner; the mean colour outside."""
    total = np.zeros(3)
    left, top = math.floor(x - 0.5), math.floor(y - 0.5)
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - abs(x - 0.5 - column)) * (1 - abs(y - 0.5 - row))
            inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
            total += weight * (image[row, column] if inside else np.array(FILL))
    return total


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("scale", "degrees"), [(1.0, 0.0), (1.3, 0.0), (1.0, 9.0), (0.8, -7.0)])
def test_a_canvas_samples_the_scaled_rotated_and_flipped_image(
    scale: float, degrees: float, flip: bool
) -> None:
    """Against the definition: each canvas pixel's middle, brought back to the image."""
    image = noise(20, 30)
    canvas = Canvas(20, 30, 16, "crop", Change(scale, degrees, False, flip))
    top, left = 1, 3
    found = canvas.image(image, top, left).permute(1, 2, 0).numpy()
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for row in range(min(16, canvas.height - top)):
        for column in range(min(16, canvas.width - left)):
            x = left + column + 0.5 - canvas.width / 2
            y = top + row + 0.5 - canvas.height / 2
            x = -x if flip else x
            source_x = 15 + 30 / canvas.width * (x * cos - y * sin)
            source_y = 10 + 20 / canvas.height * (x * sin + y * cos)
            if degrees or (1 <= source_x <= 29 and 1 <= source_y <= 19):  # a resize repeats edges
                wanted = bilinear(image, source_x, source_y)
                assert np.abs(found[row, column] - wanted).max() <= 1.01


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("scale", "degrees"), [(1.0, 0.0), (1.25, 0.0), (1.1, 8.0)])
def test_label_and_image_are_changed_alike(scale: float, degrees: float, flip: bool) -> None:
    """A label that copies a channel of large flat patches stays its copy."""
    patches = np.kron(np.arange(12).reshape(3, 4) * 20, np.ones((20, 20))).astype(np.uint8)
    image = np.stack([patches] * 3, axis=2)
    canvas = Canvas(60, 80, 64, "crop", Change(scale, degrees, False, flip))
    top, left = 2, 4
    whole = canvas.label(patches)
    planes = canvas.image(image, top, left)[0].numpy()
    label = whole[top : top + 64, left : left + 64]
    planes = planes[: label.shape[0], : label.shape[1]]
    agrees = (planes == label)[label != 255]
    assert agrees.mean() > 0.85  # the rest lies between two patches


def test_what_turning_brings_in_is_ignored() -> None:
    canvas = Canvas(40, 40, 40, "crop", Change(1.0, 10.0, False, False))
    label = canvas.label(np.ones((40, 40), np.uint8))
    image = canvas.image(np.zeros((40, 40, 3), np.uint8), 0, 0)
    assert label[0, 0] == 255
    assert label[20, 20] == 1
    assert image[:, 0, 0].tolist() == list(FILL)


def test_a_small_canvas_lies_in_the_middle_of_the_crop() -> None:
    canvas = Canvas(10, 12, 16, "crop", STILL)
    rng = stream("crop")
    assert canvas.crop(np.zeros((10, 12), np.uint8), 0.0, rng) == (-3, -2)
    found = canvas.image(noise(10, 12), -3, -2)
    assert (found.permute(1, 2, 0).numpy()[3:13, 2:14] == noise(10, 12)).all()
    assert found[:, 0, 0].tolist() == list(FILL)


@pytest.mark.parametrize("flip", [False, True])
def test_a_corner_crop_is_black_at_the_right_and_below_and_mirrored_afterwards(flip: bool) -> None:
    """MiningFSS's public code pads, crops, then flips."""
    image = noise(10, 12) | 1  # no black of its own
    spec = AugmentSpec(resize="corner-crop", flip=flip)
    label = np.ones((10, 12), np.uint8)
    seen = set()
    for number in range(8):
        found, target = augment(image, label, 16, spec, stream("corner", number))
        wanted = np.zeros((16, 16, 3), np.uint8)
        wanted[:10, :12] = image
        mirrored = not (found.permute(1, 2, 0).numpy() == wanted).all()
        seen.add(mirrored)
        if mirrored:
            wanted = wanted[:, ::-1]
        assert (found.permute(1, 2, 0).numpy() == wanted).all()
        assert (target.numpy() == np.where(wanted[..., 0] > 0, 1, 255)).all()
    assert seen == {False, flip}


def test_a_crop_keeps_the_share_of_the_object_where_32_draws_find_it() -> None:
    """Of 161 places, 4 show at least 17 of the object's 20 columns, that is 85 %."""
    label = np.zeros((40, 200), np.uint8)
    label[:, 180:] = 3
    label[:, :20] = 255
    canvas = Canvas(40, 200, 40, "crop", STILL)
    places = [canvas.crop(label, 0.85, stream("keep", n)) for n in range(400)]
    found = np.mean([left >= 157 for _, left in places])
    assert found == pytest.approx(1 - (1 - 4 / 161) ** 32, abs=0.08)
    free = [canvas.crop(label, 0.0, stream("keep", n)) for n in range(400)]
    assert np.mean([left >= 157 for _, left in free]) == pytest.approx(4 / 161, abs=0.03)


def test_a_crop_that_cannot_keep_enough_keeps_what_it_can() -> None:
    """Two objects far apart: no crop has 85 % of both, the larger one has 60 %."""
    label = np.zeros((40, 200), np.uint8)
    label[:, 10:22] = 1
    label[:, 180:188] = 1
    canvas = Canvas(40, 200, 40, "crop", STILL)
    places = [canvas.crop(label, 0.85, stream("apart", n)) for n in range(50)]
    kept = [np.count_nonzero(label[:, left : left + 40]) / 800 for _, left in places]
    assert min(kept) >= 0.4  # most single draws have nothing


# ---------------------------------------------------------------- random changes


def test_draws_of_one_switch_leave_the_others_alone() -> None:
    all_on = AugmentSpec(scale=(0.8, 1.2), rotate=10, blur=True, flip=True)
    less = AugmentSpec(scale=(0.8, 1.2), flip=True)
    for number in range(20):
        one, two = (draw_change(stream("c", number), spec) for spec in (all_on, less))
        assert (one.scale, one.flip) == (two.scale, two.flip)
        assert (two.degrees, two.blur) == (0.0, False)
    changes = [draw_change(stream("c", number), all_on) for number in range(400)]
    assert 0.8 <= min(c.scale for c in changes) < 0.82
    assert 1.18 < max(c.scale for c in changes) <= 1.2
    turned = [c.degrees for c in changes if c.degrees]
    assert 0.4 < len(turned) / 400 < 0.6
    assert -10 <= min(turned) < -9 < 9 < max(turned) <= 10
    assert 0.4 < np.mean([c.blur for c in changes]) < 0.6
    assert 0.4 < np.mean([c.flip for c in changes]) < 0.6


def test_no_change_asked_for_means_the_evaluations_pixels() -> None:
    """HSNet trains without augmentation: what it sees is what it is tested on."""
    image, label = noise(30, 50), noise(30, 50)[..., 0]
    found, target = augment(image, label, 40, AugmentSpec(resize="squash"), stream("none"))
    wanted, wanted_label, _ = fit(image, label, 40, "squash")
    assert (found.permute(1, 2, 0).numpy() == wanted).all()
    assert (target.numpy() == wanted_label).all()


def test_a_crop_without_scale_copies_pixels() -> None:
    image = smooth(60, 70)
    found, _ = augment(image, np.zeros((60, 70), np.uint8), 32, AugmentSpec(), stream("a"))
    top, left = int(found[1, 0, 0]) // 2, int(found[0, 0, 0]) // 2
    cut = image[top : top + 32, left : left + 32]
    assert (found.permute(1, 2, 0).numpy() == cut).all()


@pytest.mark.parametrize("resize", ["crop", "corner-crop", "squash", "pad"])
def test_every_setting_gives_bytes_of_the_asked_size(resize: str) -> None:
    spec = AugmentSpec(
        resize=resize, scale=(0.7, 1.4), rotate=10, blur=True, flip=True, keep_object=0.85
    )  # fmt: skip
    for number in range(12):
        size = ((9, 90), (90, 9), (40, 41))[number % 3]
        label = np.full(size, 2, dtype=np.uint8)
        image, target = augment(noise(*size), label, 33, spec, stream("sizes", number))
        assert (image.shape, target.shape) == ((3, 33, 33), (33, 33))
        assert image.dtype == target.dtype == torch.uint8
        assert set(target.unique().tolist()) <= {2, 255}
        assert 2 in target


def test_the_blur_is_opencvs(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    image = noise(31, 47)
    found = blurred(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert (found == cv2.GaussianBlur(image, (5, 5), 0)).all()
