"""Resume an interrupted build: keep its finished shards, remove those that no longer fit."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fssplat.common.errors import InputError
from fssplat.common.whole_files import remove_unfinished
from fssplat.data.build.build_folder import STATE_FOLDER, state_path
from fssplat.data.build.shard_plan import PlannedShard
from fssplat.data.build.write_shards import BadImage, ShardResult
from fssplat.data.index import REPORT_FILE, SPLITS
from fssplat.experiment.datasets import INFO_FILE


def keep_finished_shards(folder: Path, plan: tuple[PlannedShard, ...]) -> dict[str, ShardResult]:
    """Return the finished shards that can stay, by file name; remove other shards of a build here.

    The folder may contain other archives, such as downloads; they are not touched. Raises
    InputError, before anything is changed, if one of them has the name of a planned shard.
    """
    made, planned = _made_by_a_build(folder), {shard.file for shard in plan}
    for file in sorted(planned - made):
        if os.path.lexists(folder / file):
            raise InputError(
                f"{folder / file}: a shard would be written there, but no build of this folder "
                f"made that file. Move it away, or choose another --out."
            )
    for file in planned | made:  # so that the next build recognises them, even after a kill
        state_path(folder, file).touch()
    (folder / INFO_FILE).unlink(missing_ok=True)
    found = [_saved_result(folder, shard) for shard in plan]
    finished = {result.file: result for result in found if result is not None}
    for file in made - finished.keys():
        (folder / file).unlink(missing_ok=True)
        remove_unfinished(folder / file)
        if file not in planned:
            state_path(folder, file).unlink()
    return finished


def _made_by_a_build(folder: Path) -> set[str]:
    """Files of the shards that an earlier build of this folder made, or was about to make."""
    names = [path.stem for path in (folder / STATE_FOLDER).glob("*.tar.json")]
    names += _names_in(folder / INFO_FILE, lambda info: [shard["file"] for shard in info["shards"]])
    names += _names_in(folder / REPORT_FILE, lambda report: report["shards"])
    return {name for name in names if re.fullmatch(rf"({'|'.join(SPLITS)})-\d{{6,}}\.tar", name)}


def _names_in(path: Path, select: Callable[[Any], list[str]]) -> list[str]:
    """File names in a JSON file; empty if it is missing or damaged."""
    try:
        return [str(name) for name in select(json.loads(path.read_bytes()))]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _saved_result(folder: Path, shard: PlannedShard) -> ShardResult | None:
    """The saved result of a finished shard, or None if plan, result and file do not fit."""
    try:
        values = json.loads(state_path(folder, shard.file).read_bytes())
        values["bad"] = [BadImage(**item) for item in values["bad"]]
        result = ShardResult(**values)
        size = (folder / shard.file).stat().st_size
    except (OSError, ValueError, TypeError, KeyError):
        return None
    fits = result.digest == shard.digest and size == result.bytes
    return result if fits and (shard.skip_bad or not result.bad) else None
