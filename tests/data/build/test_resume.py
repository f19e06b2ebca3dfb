"""A second build in a folder: it resumes, keeps, replaces or refuses what is there."""

import os
from pathlib import Path

import pytest

from fssplat.common.errors import InputError
from fssplat.data.build import shard_plan, write_shards
from fssplat.data.build.convert import BuildSettings, build
from fssplat.data.index import Dataset
from tests.data.build.built_files import contents, truncate_jpeg
from tests.fakes.official_layouts import save_sbd_label, square_label, voc_layout


def test_an_interrupted_build_keeps_its_finished_shards(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("pascal-5i", source, tmp_path / "whole", BuildSettings(shard_samples=2))
    convert_shard = write_shards.convert_shard

    def interrupted(shard: shard_plan.PlannedShard) -> write_shards.ShardResult:
        if shard.file == "train-000002.tar":
            raise KeyboardInterrupt
        return convert_shard(shard)

    with monkeypatch.context() as patch:
        patch.setattr(write_shards, "convert_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build("pascal-5i", source, tmp_path / "cut", BuildSettings(shard_samples=2))
    with pytest.raises(InputError, match=r"dataset\.json is missing"):
        Dataset.open(tmp_path / "cut")
    other = tmp_path / "cut" / "VOCtrainval_11-May-2012.tar"  # downloads may lie in the same folder
    other.write_bytes(b"an archive")
    assert (
        build("pascal-5i", source, tmp_path / "cut", BuildSettings(shard_samples=2)).shards_kept
        == 2
    )
    assert other.read_bytes() == b"an archive"
    other.unlink()
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_finished_shard_is_made_again_when_its_source_changed(
    source: Path, tmp_path: Path
) -> None:
    broken = source / "VOC2012/JPEGImages/t4.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    with pytest.raises(InputError, match="cannot be used"):
        build("pascal-5i", source, tmp_path / "built", BuildSettings(shard_samples=2))
    broken.write_bytes(whole)
    report = build("pascal-5i", source, tmp_path / "built", BuildSettings(shard_samples=2))
    assert report.shards_kept == 4  # all but the one with t4
    assert report.info.counts == {"train": 6, "val": 3}


def test_a_finished_data_set_is_left_alone(source: Path, tmp_path: Path) -> None:
    first = build("pascal-5i", source, tmp_path / "built")
    shard = tmp_path / "built/train-000000.tar"
    written = shard.stat().st_mtime_ns
    second = build("pascal-5i", source, tmp_path / "built")
    assert second.info == first.info
    assert shard.stat().st_mtime_ns == written


def touch_all(folder: Path) -> None:
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(1, 1))


def test_a_finished_data_set_stays_where_its_source_has_other_dates(
    source: Path, tmp_path: Path
) -> None:
    truncate_jpeg(source / "VOC2012")
    first = build("pascal-5i", source, tmp_path / "built", BuildSettings(skip_bad=True))
    written = (tmp_path / "built/train-000000.tar").stat().st_mtime_ns
    touch_all(source)
    read: list[tuple[int, int]] = []
    for looked_at in (9, 0):  # once: the new dates are kept
        read.clear()
        again = build(
            "pascal-5i",
            source,
            tmp_path / "built",
            BuildSettings(skip_bad=True),
            on_progress=lambda done, total: read.append((done, total)),
        )
        assert (again.info, again.bad) == (first.info, first.bad)
        assert len(read) == looked_at
    assert (tmp_path / "built/train-000000.tar").stat().st_mtime_ns == written


@pytest.mark.parametrize("change", ["image", "label", "split", "repaired"])
def test_a_source_with_other_content_is_another_data_set(
    source: Path, tmp_path: Path, change: str
) -> None:
    voc = source / "VOC2012"
    whole = (voc / "JPEGImages/t1.jpg").read_bytes()
    truncate_jpeg(voc)
    build("pascal-5i", source, tmp_path / "built", BuildSettings(skip_bad=True))
    if change == "image":  # as long as before
        content = (voc / "JPEGImages/t3.jpg").read_bytes()
        (voc / "JPEGImages/t3.jpg").write_bytes(content[:-3] + b"\x00" + content[-2:])
    elif change == "label":
        save_sbd_label(source / "SBD/dataset/cls/x0.mat", square_label(8, side=4))
    elif change == "split":
        for split, names in (("train", "t0\nt1\nt2\nt3\n"), ("val", "v0\nv1\nv2\nt4\n")):
            (voc / f"ImageSets/Segmentation/{split}.txt").write_text(names)
    else:
        (voc / "JPEGImages/t1.jpg").write_bytes(whole)
    with pytest.raises(InputError, match="from other files"):
        build("pascal-5i", source, tmp_path / "built", BuildSettings(skip_bad=True))


def test_a_data_set_from_other_files_is_replaced_only_on_request(
    source: Path, tmp_path: Path
) -> None:
    build("pascal-5i", source, tmp_path / "built", BuildSettings(shard_samples=2))
    other = voc_layout(tmp_path / "other", train=2, val=1)
    with pytest.raises(InputError, match=r"from other files.*--overwrite"):
        build("pascal-5i", other, tmp_path / "built")
    build("pascal-5i", other, tmp_path / "built", BuildSettings(overwrite=True))
    assert Dataset.open(tmp_path / "built").info.counts == {"train": 3, "val": 1}
    assert len(list((tmp_path / "built").glob("*.tar"))) == 2  # none of the old ones


def test_tars_of_somebody_else_are_left_alone(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "built"
    out.mkdir()
    others = [out / "imagenet-train-000147.tar", out / "train-000007.tar", out / "2024-000001.tar"]
    for path in others:
        path.write_bytes(b"the only copy")
    build("pascal-5i", source, out, BuildSettings(shard_samples=2))
    build("pascal-5i", source, out, BuildSettings(shard_samples=4, overwrite=True))
    assert [path.read_bytes() for path in others] == [b"the only copy"] * 3
    assert not (out / "train-000002.tar").exists()  # of the first build, which has more shards


def test_a_tar_of_somebody_else_in_a_shards_place_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "built"
    out.mkdir()
    (out / "val-000000.tar").write_bytes(b"the only copy")
    with pytest.raises(InputError, match=r"val-000000\.tar: a shard would be .* Move it away"):
        build("pascal-5i", source, out)
    assert [path.name for path in out.glob("*.tar")] == ["val-000000.tar"]
    assert (out / "val-000000.tar").read_bytes() == b"the only copy"


def test_shards_stay_ours_after_a_kill_or_without_a_readable_dataset_json(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill after a shard has its name leaves no note of what it holds."""
    out = tmp_path / "built"

    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write_shards, "write_file", killed)
        with pytest.raises(KeyboardInterrupt):
            build("pascal-5i", source, out)
    assert (out / "train-000000.tar").is_file()
    build("pascal-5i", source, out)
    (out / "dataset.json").write_text("{")
    build("pascal-5i", source, out, BuildSettings(overwrite=True))
    assert len(Dataset.open(out)) == 9
