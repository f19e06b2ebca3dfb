"""Which classes of a fold are novel, and in which images they are tested.

PASCAL-5i  novel classes of fold f: 5f+1 .. 5f+5 (Shaban et al., 2017); the same for synthetic.
COCO-20i   interleaved: f+1, f+5, .. f+77 (PFENet, HSNet); contiguous: 20f+1 .. 20f+20 (PANet).
FSS-1000   one fold: 520 classes for training, 240 for selection, 240 for the test.
Your own   the folds in its dataset.json.
"""

from collections.abc import Mapping

from fssplat.common.errors import InputError
from fssplat.common.printing import command_line
from fssplat.data.index import DatasetInfo
from fssplat.experiment.datasets import BUILT_IN
from fssplat.experiment.protocols import Protocol

# PASCAL's class name -> COCO's class id of the same kind of object (COCO's name in the comment).
COCO_OF_PASCAL: Mapping[str, int] = {
    "aeroplane": 5,  # airplane
    "bicycle": 2,
    "bird": 15,
    "boat": 9,
    "bottle": 40,
    "bus": 6,
    "car": 3,
    "cat": 16,
    "chair": 57,
    "cow": 20,
    "diningtable": 61,  # dining table
    "dog": 17,
    "horse": 18,
    "motorbike": 4,  # motorcycle
    "person": 1,
    "pottedplant": 59,  # potted plant
    "sheep": 19,
    "sofa": 58,  # couch
    "train": 7,
    "tvmonitor": 63,  # tv
}


def ignored_classes(info: DatasetInfo, fold: int, protocol: Protocol) -> tuple[int, ...]:
    """Class ids that become 255 in training labels: the novel ones with `novel: ignore`."""
    hidden = protocol.novel == "ignore" and info.labels == "class-index"
    return novel_classes(info, fold, protocol) if hidden else ()


def novel_classes(
    info: DatasetInfo, fold: int, protocol: Protocol, train_on: str = ""
) -> tuple[int, ...]:
    """Ids of the classes to test, ascending.

    If `train_on` names another data set, these are the novel classes of its fold, as ids of this
    data set. Raises InputError for a fold out of range or a pair of data sets without a rule.
    """
    check_fold(info, fold)
    if info.folds:  # assumed to have no class in common with another training set
        return info.folds[fold].novel
    if info.labels == "binary":
        return classes_of_split(info, "test")  # the same
    if train_on in ("", info.name):
        return tuple(
            c for c in range(1, len(info.classes) + 1) if fold_of(info, c, protocol) == fold
        )
    if (train_on, info.name) != ("coco-20i", "pascal-5i"):
        raise InputError(
            f"train_on: no rule says which classes of {info.name} are novel after training on "
            f"{train_on}. Train on {info.name}, or on coco-20i to test on pascal-5i or fss-1000."
        )
    return tuple(
        class_id
        for class_id, name in enumerate(info.classes, start=1)
        if _coco_fold(COCO_OF_PASCAL[name], protocol, 80) == fold
    )


def base_classes(info: DatasetInfo, fold: int, protocol: Protocol) -> tuple[int, ...]:
    """Ids of the classes to train on, ascending."""
    check_fold(info, fold)
    if info.folds:
        return info.folds[fold].base
    if info.labels == "binary":
        return classes_of_split(info, "train")
    return tuple(c for c in range(1, len(info.classes) + 1) if fold_of(info, c, protocol) != fold)


def selection_classes(info: DatasetInfo, fold: int, protocol: Protocol) -> tuple[int, ...]:
    """Ids of the classes by which weights are chosen; none of them is novel.

    The base classes, in images outside the training split; for FSS-1000 its val classes.
    """
    if info.labels == "binary":
        return classes_of_split(info, "val")
    return base_classes(info, fold, protocol)


def novel_split(info: DatasetInfo) -> str:
    """The split with the images in which novel classes are tested."""
    return "test" if info.labels == "binary" else "val"


def fold_of(info: DatasetInfo, class_id: int, protocol: Protocol) -> int:
    """The fold in which a class is novel, for a data set with class-index labels.

    -1 for a class of your own data set that no fold tests.
    """
    if info.folds:
        return next((n for n, fold in enumerate(info.folds) if class_id in fold.novel), -1)
    if info.name == "coco-20i":
        return _coco_fold(class_id, protocol, len(info.classes))
    return (class_id - 1) * fold_count(info) // len(info.classes)


def fold_count(info: DatasetInfo) -> int:
    """Number of folds. Raises InputError for a data set that is neither built in nor has folds."""
    if info.folds:
        return len(info.folds)
    if info.name not in BUILT_IN:
        words = ["fssplat", "data", "build", info.name, "--source", "FOLDER", "--overwrite"]
        raise InputError(
            f"{info.name}: its dataset.json has no folds. Run `{command_line(words)}`."
        )
    return BUILT_IN[info.name].folds


def check_fold(info: DatasetInfo, fold: int) -> None:
    """Raises InputError if the data set has no such fold."""
    count = fold_count(info)
    if not 0 <= fold < count:
        raise InputError(f"fold {fold}: {info.name} has folds 0 to {count - 1}. Choose one.")


def _coco_fold(class_id: int, protocol: Protocol, classes: int) -> int:
    folds = BUILT_IN["coco-20i"].folds
    if protocol.coco_folds == "interleaved":
        return (class_id - 1) % folds
    return (class_id - 1) * folds // classes


def classes_of_split(info: DatasetInfo, split: str) -> tuple[int, ...]:
    """Class ids of a split, numbered train, val, test. Raises InputError if it has none."""
    first = 1
    for name, count in info.class_counts.items():
        if name == split:
            return tuple(range(first, first + count))
        first += count
    raise InputError(
        f"{info.name}: it has no {split} classes. Build it again with lists that contain some."
    )
