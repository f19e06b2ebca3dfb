import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from fssplat.common.errors import InputError
from fssplat.data.build import import_lists as importing
from fssplat.data.build.convert import build
from fssplat.data.build.import_lists import import_lists, key_of, plain_pickle
from fssplat.data.episodes.training import TrainingEpisodes
from fssplat.data.index import Dataset
from fssplat.data.public_lists import public_list
from fssplat.experiment.protocols import PROTOCOLS, resolve_protocol
from tests.fakes.official_layouts import built_voc_of_pairs, fss_layout


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Training images t000 to t003 of classes 6 and 7, two of class 1; four test images of 1."""
    train = [(6, 7), (6, 7), (7, 6), (6, 1), (1, 0)]
    return built_voc_of_pairs(tmp_path / "voc", {"train": train, "val": [(1, 2)] * 4})


def hsnet_pascal(folder: Path, train: dict[int, str], val: dict[int, str]) -> Path:
    for part, files in (("trn", train), ("val", val)):
        (folder / "pascal" / part).mkdir(parents=True, exist_ok=True)
        for fold in range(4):
            (folder / "pascal" / part / f"fold{fold}.txt").write_text(files.get(fold, ""))
    return folder


def test_published_lists_are_recognised_and_counted(shared: Path, coco: Dataset) -> None:
    """The counts are those of the reference facts; nearly all images are outside of the sample."""
    train, val = import_lists(coco, shared / "data/lists")
    assert (train.name, val.name) == ("hsnet-train", "hsnet-val")
    assert train.published
    assert val.published
    folds = np.arange(80) % 4
    for part, listed, images in (
        ("train", train, [62040, 74381, 73035, 73808]),
        ("val", val, [26052, 15305, 13138, 12640]),
    ):
        found = public_list(coco.root, listed.name)
        for fold in range(4):
            inside = (folds[found.classes - 1] == fold) == (part == "val")
            assert (
                len({k for k, chosen in zip(found.keys, inside, strict=True) if chosen})
                == (images[fold])
            )
    assert train.lines - len(train.unmatched) == 223
    shutil.rmtree(Path(coco.root) / "lists")


def test_the_pascal_lists_have_the_published_lines(shared: Path, voc: Dataset) -> None:
    found = {item.name: item for item in import_lists(voc, shared / "data/lists")}
    assert {name: (item.lines, item.images) for name, item in found.items()} == {
        "pfenet-train": (5953, 5953),
        "pfenet-val": (1449, 1449),
        "hsnet-train": (13680, 10092),
        "hsnet-val": (1868, 1381),
    }
    assert all(item.published for item in found.values())
    with pytest.raises(InputError, match="no image of the public list pfenet-train"):
        TrainingEpisodes(voc, 0, PROTOCOLS["pfenet"])  # the sample has other images
    shutil.rmtree(Path(voc.root) / "lists")


def test_keys_are_those_of_the_data_set() -> None:
    assert key_of("JPEGImages/2007_000033.jpg") == "2007_000033"
    assert key_of("val2014/COCO_val2014_000000429717.jpg") == "000000429717"
    assert key_of("2007_000033") == "2007_000033"


def test_a_training_list_says_which_images_are_drawn(data: Dataset, tmp_path: Path) -> None:
    pascal = tmp_path / "pfenet" / "pascal"
    pascal.mkdir(parents=True)
    (pascal / "voc_sbd_merge_noduplicate.txt").write_text(
        "JPEGImages/t000.jpg SegmentationClassAug/t000.png\n"
        "JPEGImages/t002.jpg SegmentationClassAug/t002.png\n"
        "JPEGImages/gone.jpg SegmentationClassAug/gone.png\n"
    )
    (pascal / "val.txt").write_text("JPEGImages/v000.jpg SegmentationClassAug/v000.png\n")
    train, _ = import_lists(data, tmp_path)
    assert not train.published
    assert train.unmatched == ("JPEGImages/gone.jpg",)
    rules = resolve_protocol({"name": "pfenet", "min_area": 50, "short_classes": "drop"})
    episodes = TrainingEpisodes(data, 0, rules)
    assert sorted(episodes(0, i).query for i in range(len(episodes))) == [
        data.row_of("t000"),
        data.row_of("t002"),
    ]
    assert episodes.notes == ("1 of 3 lines of pfenet-train are not in the data set",)


def test_lines_of_image_and_class_are_drawn_as_listed(data: Dataset, tmp_path: Path) -> None:
    """t003 is listed for class 6 alone, t001 not at all."""
    folder = hsnet_pascal(
        tmp_path / "hsnet",
        {0: "t003__01\nt004__01\n", 1: "t000__06\nt002__06\nt003__06\nt000__07\nt002__07\n"},
        {0: "v000__01\nv001__01\n"},
    )
    import_lists(data, folder.parent)
    rules = resolve_protocol({"name": "hsnet", "short_classes": "drop"})
    episodes = TrainingEpisodes(data, 0, rules)
    assert len(episodes) == 5
    drawn = {(data.keys[e.query], e.classes[0]) for e in (episodes(0, i) for i in range(5))}
    assert drawn == {("t000", 6), ("t002", 6), ("t003", 6), ("t000", 7), ("t002", 7)}
    assert {episodes(0, i).classes[0] for i in range(5)} == {6, 7}


def test_a_list_that_was_not_imported_names_the_command(data: Dataset) -> None:
    with pytest.raises(InputError, match=r"needs the public list hsnet-train. Run `fssplat data i"):
        TrainingEpisodes(data, 0, PROTOCOLS["hsnet"])


def test_a_damaged_copy_of_a_list_is_refused(data: Dataset, tmp_path: Path) -> None:
    import_lists(data, hsnet_pascal(tmp_path, {0: "t003__01\n"}, {0: "v000__01\n"}))
    path = Path(data.root) / "lists" / "hsnet-train.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    with pytest.raises(InputError, match="cut short or not Parquet"):
        public_list(data.root, "hsnet-train")
    path.write_bytes(content[:4] + b"\xff" * (len(content) - 16) + content[-12:])
    with pytest.raises(InputError, match="cut short or not Parquet"):
        public_list(data.root, "hsnet-train")
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        public_list(data.root, "hsnet-train")


@pytest.mark.parametrize("line", ["t000__21", "t000_06", "t000 6", "t000__00"])
def test_a_line_that_is_no_image_and_class_is_named(
    data: Dataset, tmp_path: Path, line: str
) -> None:
    folder = hsnet_pascal(tmp_path, {2: f"t000__11\n\n{line}\n"}, {})
    with pytest.raises(InputError, match=r"fold2.txt, line 3: .* is not `image__class`"):
        import_lists(data, folder)


def test_a_missing_fold_file_is_named(data: Dataset, tmp_path: Path) -> None:
    folder = hsnet_pascal(tmp_path, {}, {})
    (folder / "pascal/trn/fold2.txt").unlink()
    with pytest.raises(InputError, match=r"fold2.txt: missing, while 4 such files make one list"):
        import_lists(data, folder)


def test_a_folder_without_lists_says_what_was_wanted(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no public lists of pascal-5i there.*hsnet-val"):
        import_lists(data, tmp_path)


def test_fss_lists_are_checked_against_the_classes_of_the_data_set(tmp_path: Path) -> None:
    classes = {"train": ["ant", "bee"], "val": ["cat"], "test": ["dog"]}
    source = fss_layout(tmp_path / "fss", classes)
    data = Dataset.open(build("fss-1000", source, tmp_path / "built").root)
    place = tmp_path / "lists" / "fss"
    place.mkdir(parents=True)
    for name, text in {"trn": "ant\nbee\n", "val": "cat\n", "test": "dog\nemu\n"}.items():
        (place / f"{name}.txt").write_text(text)
    (found,) = import_lists(data, place.parent)
    assert (found.name, found.lines, found.unmatched) == ("hsnet-classes", 5, ("emu",))
    (place / "val.txt").write_text("ant\n")
    with pytest.raises(InputError, match=r"val.txt, line 1: ant is not a val class of .*--lists"):
        import_lists(data, place.parent)


# ---------------------------------------------------------------- pickles


class Malicious:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.path, "run")


def test_a_pickle_that_asks_for_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    path = tmp_path / "fold0.pkl"
    path.write_bytes(pickle.dumps({0: [Malicious(tmp_path / "trace")]}))
    with pytest.raises(InputError, match=r"fold0.pkl: not a pickle of plain .* No code in it was"):
        plain_pickle(path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a pickle", pickle.dumps({0: ["a"]})[:-4], b"Pid\n."]
)
def test_a_broken_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(InputError, match="not a pickle of plain strings"):
        plain_pickle(tmp_path / "x.pkl")


def test_a_pickle_of_plain_values_is_read(tmp_path: Path) -> None:
    for protocol in range(6):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps({0: ["a", "b"], 5: []}, protocol))
        assert plain_pickle(tmp_path / "x.pkl") == {0: ["a", "b"], 5: []}


def test_a_huge_pickle_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PICKLE_LIMIT", 10)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({0: ["a", "b"]}))
    with pytest.raises(InputError, match="is too much for a list of images"):
        plain_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("value", [["a"], {80: ["a"]}, {0: "a"}, {0: [1]}])
def test_a_plain_pickle_of_another_shape_is_refused(
    coco: Dataset, tmp_path: Path, value: object
) -> None:
    for part in ("trn", "val"):
        (tmp_path / "coco" / part).mkdir(parents=True)
        for fold in range(4):
            buffer = io.BytesIO()
            pickle.dump(value, buffer)
            (tmp_path / "coco" / part / f"fold{fold}.pkl").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="not a dict from class"):
        import_lists(coco, tmp_path)


def test_fold_files_that_disagree_are_refused(coco: Dataset, tmp_path: Path) -> None:
    for part in ("trn", "val"):
        (tmp_path / "coco" / part).mkdir(parents=True)
        for fold in range(4):
            value = {2: [f"train2014/COCO_train2014_{fold // 3:012d}.jpg"]}
            (tmp_path / "coco" / part / f"fold{fold}.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(
        InputError, match=r"fold3.pkl: class 2 has other images than in the previous folds"
    ):
        import_lists(coco, tmp_path)
