"""Searches whose points are trained by the real engine."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fssplat.data.folds import novel_classes
from fssplat.engine.settings import RunSettings
from fssplat.experiment.protocols import PROTOCOLS
from fssplat.launching.launch import Request
from fssplat.search.output import ended_points
from fssplat.search.prepare import prepare
from fssplat.search.worker import (
    Report,
    packed,
    train_to_milestones,
    unpacked,
)
from tests.fakes.searches import SETTINGS, search_file, search_without_ray


def relabelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two data sets that differ in the labels of fold 0's novel classes alone.

    Their fingerprint, from which episodes are drawn, is held the same, so that nothing else
    differs.
    """
    import numpy as np
    from PIL import Image

    from fssplat.data import index
    from fssplat.data.build import index_and_report
    from fssplat.data.build.convert import BuildSettings, build
    from fssplat.data.index import Dataset
    from fssplat.data.sources.record import SourceOptions

    for module in (index_and_report, index):
        monkeypatch.setattr(module, "fingerprint_of", lambda *_: "0" * 16)
    options = SourceOptions(train_images=40, val_images=60, workers=1)
    raw, before, after = tmp_path / "raw", tmp_path / "before", tmp_path / "after"
    build("synthetic", raw, before, BuildSettings(options=options, workers=1))
    novel = novel_classes(Dataset.open(str(before)).info, 0, PROTOCOLS["fssplat"])
    for path in sorted((raw / "SegmentationClass").glob("*.png")):
        picture = Image.open(path)
        label = np.asarray(picture).copy()
        other = np.arange(256, dtype=np.uint8)
        other[list(novel)] = [0, *novel[:-1]]  # one vanishes, the others change places
        changed = Image.fromarray(other[label], mode="P")
        changed.putpalette(picture.getpalette() or [])
        changed.save(path)
    build("synthetic", raw, after, BuildSettings(options=options, workers=1))
    return before, after


def table_of(folder: Path, data: Path, **section: Any) -> list[list[str]]:
    drive = search_without_ray(
        search_file(folder, data, trials=2, milestones=[0.5, 1.0], pruning="none", **section),
        train_to_milestones,
    )
    drive.write_files(ended_points(drive.search, drive.study))
    return [row.split(",") for row in (drive.folder / "trials.csv").read_text().splitlines()]


@pytest.mark.slow
def test_the_novel_folds_labels_change_nothing_in_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = relabelled(tmp_path, monkeypatch)
    one = table_of(tmp_path / "one", before)
    assert one[1][1] == "complete"
    assert float(one[1][3]) > 0
    assert table_of(tmp_path / "two", after) == one
    # The same change does show where points are chosen by the novel classes themselves.
    peeking = table_of(tmp_path / "three", before, selection="novel-best")
    assert table_of(tmp_path / "four", after, selection="novel-best") != peeking


def test_folds_are_averaged_and_an_interrupted_point_continues_bit_for_bit(
    data: Path, tmp_path: Path
) -> None:
    from fssplat.search.worker import MilestoneScore
    from tests.fakes.searches import SPACE

    folds = {"grid": {**SETTINGS["grid"], "fold": [0, 1]}}
    options = {"space": SPACE, "trials": 1, "milestones": [0.5, 1.0], "experiment": folds}
    whole = search_without_ray(
        search_file(tmp_path / "whole", data, **options), train_to_milestones
    )
    (one,) = ended_points(whole.search, whole.study)
    assert set(one.scores[1.0]) == {"miou", "fold0", "fold1"}
    mean = (one.scores[1.0]["fold0"] + one.scores[1.0]["fold1"]) / 2
    assert one.values["miou"] == pytest.approx(mean)
    assert one.steps == 16

    class Cut(Exception):  # noqa: N818 - no error
        pass

    prepared = prepare(Request(search_file(tmp_path / "cut", data, **options)))
    task = whole.task(0, prepared.search.defaults, 1.0, 0.0)
    folder = tmp_path / "point"
    folder.mkdir()
    seen: list[MilestoneScore] = []

    def cut(rung: MilestoneScore) -> None:
        seen.append(rung)
        if len(seen) == 1:
            raise Cut

    def never() -> bool:
        return False

    for report in (cut, seen.append):
        chosen: Report = report
        try:
            train_to_milestones(task, folder, chosen, never)
        except Cut:
            continue
    assert [rung.index for rung in seen] == [1, 1, 2]
    assert seen[-1].miou == one.values["miou"]
    assert json.loads((folder / "rungs.json").read_text())[1]["steps"] == 16


def test_a_point_without_a_gpu_does_not_use_visible_ones(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = search_without_ray(search_file(tmp_path, data, trials=1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for gpu, device in ((0.0, "cpu"), (0.5, "cuda")):
        task = unpacked(packed(drive.task(0, drive.search.defaults, 1.0, gpu)))
        assert RunSettings.of_job(task.jobs[0], task.gpu, None).device.type == device


# ------------------------------------------------------------------ what only scoring reads


def mining(folder: Path, data: Path, fusion: float, **section: Any) -> Path:
    """A search with MiningFSS, whose training never sees the share of Eq. 7."""
    method = [{"name": "mining", "options": {"fusion": fusion, "pool_images": 8}}]
    experiment = {"grid": {**SETTINGS["grid"], "method": method}}
    return search_file(folder, data, experiment=experiment, **section)


def test_an_option_that_only_scoring_reads_changes_a_points_score(
    data: Path, tmp_path: Path
) -> None:
    space = {"options": {"fusion": {"uniform": [0, 1]}}}
    path = mining(tmp_path, data, 1.0, space=space, trials=1, milestones=[0.5, 1.0])
    drive = search_without_ray(path, train_to_milestones)
    (one,) = ended_points(drive.search, drive.study)
    default, other = (drive.task(0, {"options.fusion": share}, 1.0, 0.0) for share in (1.0, 0.0))
    assert [job.key for job in other.jobs] == [job.key for job in default.jobs]
    assert other.key != default.key  # so each climbs in a folder of its own
    assert unpacked(packed(other)).key == other.key
    seen: list[float] = []
    (tmp_path / "point").mkdir()
    train_to_milestones(
        other, tmp_path / "point", lambda rung: seen.append(rung.miou), lambda: False
    )
    assert seen[-1] != one.values["miou"]


def test_searches_that_differ_in_a_fixed_scoring_option_share_no_study(
    data: Path, tmp_path: Path
) -> None:
    space = {"training": {"lr": {"log": [1e-5, 1]}}}
    same, again, other = (
        prepare(Request(mining(tmp_path, data, fusion, space=space))).mark
        for fusion in (0.5, 0.5, 0.6)
    )
    assert same == again != other
