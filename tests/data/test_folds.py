import dataclasses

import pytest

from fssplat.common.errors import InputError
from fssplat.data.folds import (
    COCO_OF_PASCAL,
    base_classes,
    novel_classes,
    novel_split,
    selection_classes,
)
from fssplat.data.index import Dataset, DatasetInfo
from fssplat.data.sources.voc import CLASSES
from fssplat.experiment.protocols import PROTOCOLS, Protocol, resolve_protocol

DEFAULT = PROTOCOLS["fssplat"]
CONTIGUOUS = resolve_protocol({"name": "fssplat", "coco_folds": "contiguous"})


def info(name: str, classes: int, **values: object) -> DatasetInfo:
    names = CLASSES if name == "pascal-5i" else tuple(f"class {c}" for c in range(1, classes + 1))
    head = DatasetInfo(name, names, "source", "", "print", {"train": 1, "val": 1}, ())
    return dataclasses.replace(head, **values)  # type: ignore[arg-type]


PASCAL, COCO = info("pascal-5i", 20), info("coco-20i", 80)
FSS = info("fss-1000", 9, labels="binary", class_counts={"train": 5, "val": 3, "test": 1})


def test_pascal_folds_are_five_classes_in_a_row() -> None:
    assert novel_classes(PASCAL, 0, DEFAULT) == (1, 2, 3, 4, 5)
    assert novel_classes(PASCAL, 3, DEFAULT) == (16, 17, 18, 19, 20)


def test_coco_folds_are_every_fourth_class_or_twenty_in_a_row() -> None:
    assert novel_classes(COCO, 1, DEFAULT) == tuple(range(2, 80, 4))
    assert novel_classes(COCO, 1, CONTIGUOUS) == tuple(range(21, 41))


@pytest.mark.parametrize("protocol", [DEFAULT, CONTIGUOUS])
@pytest.mark.parametrize("data", [PASCAL, COCO, info("synthetic", 20)])
def test_every_class_is_novel_in_one_fold_and_base_in_three(
    data: DatasetInfo, protocol: Protocol
) -> None:
    novel = [novel_classes(data, fold, protocol) for fold in range(4)]
    assert sorted(c for of_fold in novel for c in of_fold) == list(range(1, len(data.classes) + 1))
    for fold in range(4):
        assert not set(novel[fold]) & set(base_classes(data, fold, protocol))
        assert selection_classes(data, fold, protocol) == base_classes(data, fold, protocol)


def test_fss_1000_splits_its_classes() -> None:
    assert base_classes(FSS, 0, DEFAULT) == (1, 2, 3, 4, 5)
    assert selection_classes(FSS, 0, DEFAULT) == (6, 7, 8)
    assert novel_classes(FSS, 0, DEFAULT, train_on="coco-20i") == (9,)
    assert (novel_split(FSS), novel_split(PASCAL)) == ("test", "val")


def test_a_fold_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match="fold 4: pascal-5i has folds 0 to 3"):
        novel_classes(PASCAL, 4, DEFAULT)
    with pytest.raises(InputError, match="fold 1: fss-1000 has folds 0 to 0"):
        base_classes(FSS, 1, DEFAULT)


def test_after_coco_the_novel_classes_of_pascal_are_those_of_the_coco_fold() -> None:
    """COCO's fold 0 holds out its classes 1, 5, 9, ...: here 5, 9, 57, 61, 17 and 1."""
    names = [CLASSES[c - 1] for c in novel_classes(PASCAL, 0, DEFAULT, train_on="coco-20i")]
    assert names == ["aeroplane", "boat", "chair", "diningtable", "dog", "person"]
    found = [novel_classes(PASCAL, f, DEFAULT, train_on="coco-20i") for f in range(4)]
    assert sorted(c for of_fold in found for c in of_fold) == list(range(1, 21))


def test_pascal_classes_have_the_right_coco_ids(coco: Dataset) -> None:
    other = {
        "aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle",
        "pottedplant": "potted plant", "sofa": "couch", "tvmonitor": "tv",
    }  # fmt: skip
    for name in CLASSES:
        assert coco.info.classes[COCO_OF_PASCAL[name] - 1] == other.get(name, name)


def test_another_pair_of_data_sets_has_no_rule() -> None:
    with pytest.raises(InputError, match="no rule says which classes of coco-20i are novel"):
        novel_classes(COCO, 0, DEFAULT, train_on="pascal-5i")
