"""The pseudo-labelled images of MiningFSS: clusters, pseudo masks, draws, image folders."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fssplat.common.errors import InputError
from fssplat.methods.layers.image_folder import ImageFolder
from fssplat.methods.layers.photometric import distort, draw_distortion
from fssplat.methods.layers.pseudo_batches import PseudoBatches
from fssplat.methods.layers.pseudo_labels import (
    Pool,
    PseudoMasks,
    evenly_spaced,
    kmeans,
    most_similar,
    nearest_centre,
    pseudo_masks,
    representatives,
)
from tests.fakes.method_inputs import (
    BaseImages,
    MemoryArtefacts,
)
from tests.fakes.mining_networks import cell_means, network, prepared


@pytest.mark.parametrize("k", [1, 5])
def test_kmeans_ends_when_every_point_is_nearest_to_the_mean_of_its_cluster(k: int) -> None:
    torch.manual_seed(0)
    points = torch.randn(40, 3) + torch.randint(0, 4, (40, 1)) * 5
    centres = kmeans(points, k)
    owners = []
    for point in points:
        distances = [float((point - centre).square().sum()) for centre in centres]
        owners.append(distances.index(min(distances)))
    assert nearest_centre(points, centres).tolist() == owners
    for number in range(k):
        own = points[torch.tensor(owners) == number]
        torch.testing.assert_close(centres[number], own.mean(dim=0))


def test_kmeans_gives_the_same_centres_twice_and_accepts_fewer_points_than_centres() -> None:
    points = torch.tensor([[0.0, 0.0], [4.0, 4.0]])
    centres = kmeans(points, 4)
    assert torch.equal(centres, kmeans(points, 4))
    assert {tuple(centre.tolist()) for centre in centres} == {(0.0, 0.0), (4.0, 4.0)}


def test_representatives_are_the_mean_background_and_the_centres_of_all_objects() -> None:
    source = BaseImages()
    objects, backgrounds = [], []
    for index in range(len(source)):
        large = F.interpolate(
            cell_means(source.image(index))[None],
            size=(41, 41),
            mode="bilinear",
            align_corners=True,
        )[0]
        for class_id in (0, *source.classes):
            inside = source.label(index) == class_id
            if inside.any():
                (objects if class_id else backgrounds).append(large[:, inside].mean(dim=1))
    found = representatives(cell_means, source, 2, None)
    torch.testing.assert_close(found[0], torch.stack(backgrounds).mean(dim=0))
    torch.testing.assert_close(found[1:], kmeans(torch.stack(objects), 2))
    assert len(objects) == 4  # class 9 is nowhere, an all-ignored image shows nothing


def test_a_cell_takes_the_most_similar_representative() -> None:
    torch.manual_seed(1)
    maps, centres = torch.randn(6, 4, 5), torch.randn(4, 6)
    labels = most_similar(maps, centres)
    for y in range(4):
        for x in range(5):
            cosines = [float(F.cosine_similarity(maps[:, y, x], c, dim=0)) for c in centres]
            assert labels[y, x] == cosines.index(max(cosines))


def test_pseudo_masks_keep_each_image_at_its_own_size() -> None:
    class Two:
        key = "two"

        def __len__(self) -> int:
            return 2

        def image(self, index: int) -> Tensor:
            return torch.full((3, 8 + 4 * index, 12), 40 * (index + 1), dtype=torch.uint8)

    centres = torch.eye(3)
    masks = PseudoMasks(**pseudo_masks(cell_means, Two(), centres))
    assert [tuple(masks.grid(i).shape) for i in range(2)] == [(2, 3), (3, 3)]
    assert torch.equal(masks.grid(1), most_similar(cell_means(Two().image(1)), centres).byte())
    assert torch.equal(
        masks.mask(1, (12, 12)), masks.grid(1).repeat_interleave(4, 0).repeat_interleave(4, 1)
    )


def test_a_pool_joins_sources_and_picks_evenly() -> None:
    assert evenly_spaced(10, 4) == [0, 2, 5, 7]
    assert evenly_spaced(3, None) == evenly_spaced(3, 9) == [0, 1, 2]
    pool = Pool([BaseImages(), BaseImages()], 2)
    assert len(pool) == 4
    assert torch.equal(pool.image(1), BaseImages().image(2))
    assert pool.key != Pool([BaseImages(), BaseImages()], 3).key


def test_pseudo_masks_are_computed_once_for_equal_backbones() -> None:
    artefacts = MemoryArtefacts()
    prepared(artefacts)
    prepared(artefacts)
    assert len(artefacts.kept) == 1
    prepared(artefacts, clusters=3)
    prepared(artefacts, unlabelled=("train", "remain"))
    assert len(artefacts.kept) == 3
    network(mine=False, foreground=False).prepare(BaseImages(), artefacts)
    assert len(artefacts.kept) == 3


def test_a_draw_depends_on_its_number_alone() -> None:
    built = prepared()
    assert built.batches is not None
    one_by_one = [built.batches.take(number, 1, 33)[0] for number in range(6)]
    together = prepared().batches
    assert together is not None
    for alone, sample in zip(one_by_one, together.take(0, 6, 33), strict=True):
        assert torch.equal(alone.image, sample.image)
        assert torch.equal(alone.label, sample.label)
        assert alone.distortion == sample.distortion
    other = network(seed=1)
    other.prepare(BaseImages(), MemoryArtefacts())
    assert other.batches is not None
    assert not all(
        torch.equal(a.image, b.image)
        for a, b in zip(one_by_one, other.batches.take(0, 6, 33), strict=True)
    )


def test_a_small_image_is_padded_with_ignored_pixels_and_keeps_its_labels_in_place() -> None:
    source = BaseImages()
    grids = torch.arange(36).reshape(6, 6).to(torch.uint8)
    masks = PseudoMasks(grids.flatten().repeat(4), torch.full((4, 2), 6))
    sample = PseudoBatches(source, masks, 0).sample(0, 50)
    inside = sample.label != 255
    assert sample.image.shape == (3, 50, 50)
    assert int(inside.sum()) == 41 * 41
    assert not sample.image[:, ~inside].any()


@pytest.mark.parametrize("seed", range(8))
def test_a_distorted_image_stays_between_0_and_1(seed: int) -> None:
    import numpy as np

    image = torch.rand(3, 24, 24)
    changed = distort(image, draw_distortion(np.random.default_rng(seed)))
    assert changed.shape == image.shape
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_an_image_folder_uses_a_few_images_of_each_class(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("RGB", (6, 4), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    folder = ImageFolder(tmp_path, per_class=2)
    assert [path.parent.name for path in folder.paths] == ["cat", "cat", "dog", "dog"]
    assert folder.image(0).shape == (3, 4, 6)
    with pytest.raises(InputError, match="no images"):
        ImageFolder(tmp_path / "cat")


def test_the_error_for_missing_imagenet_names_the_variable_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FSSPLAT_IMAGENET", raising=False)
    with pytest.raises(InputError, match="FSSPLAT_IMAGENET"):
        network(unlabelled=("train", "imagenet")).prepare(BaseImages(), MemoryArtefacts())
