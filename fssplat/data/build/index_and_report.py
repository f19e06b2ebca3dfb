"""Write the three files that describe a build: report.json, index.parquet, dataset.json."""

import json
import shutil
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fssplat.data.build.build_folder import STATE_FOLDER, write_file
from fssplat.data.build.shard_plan import PlannedShard, plan_digest
from fssplat.data.build.write_shards import ShardResult
from fssplat.data.index import (
    INDEX_FILE,
    REPORT_FILE,
    SCHEMA,
    SPLITS,
    DatasetInfo,
    fingerprint_of,
)
from fssplat.data.shards import Shard
from fssplat.data.sources.record import Source
from fssplat.experiment.datasets import INFO_FILE, recipe_for


def write_report(
    folder: Path,
    source: Path,
    notes: tuple[str, ...],
    plan: tuple[PlannedShard, ...],
    results: list[ShardResult],
) -> None:
    """report.json: what was read, and every image that cannot be used."""
    report = {
        "source": str(source),
        "plan": plan_digest(plan),
        "images": sum(len(shard.records) for shard in plan),
        "shards": [result.file for result in results if result.bytes],
        "notes": notes,
        "bad": [asdict(item) for result in results for item in result.bad],
    }
    write_file(folder / REPORT_FILE, json.dumps(report, indent=1).encode())


def _recipe(table: pa.Table) -> str:
    """The built-in data set whose recipes fit these images."""
    sides = np.maximum(table["height"].to_numpy(), table["width"].to_numpy())
    return recipe_for(int(np.median(sides)), table["split"].to_pylist().count("train"))


def write_index(folder: Path, content: Source, results: list[ShardResult]) -> DatasetInfo:
    """index.parquet, then dataset.json, which makes the folder a data set."""
    written = [result for result in results if result.bytes]
    rows = [
        {**row, "shard": number} for number, result in enumerate(written) for row in result.rows
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    splits = table["split"].to_pylist()
    info = DatasetInfo(
        name=content.name,
        classes=content.classes,
        source=content.source,
        year=content.year,
        fingerprint=fingerprint_of(content.name, content.classes, table, content.folds),
        counts={split: splits.count(split) for split in SPLITS if split in splits},
        shards=tuple(Shard(item.file, item.bytes, len(item.rows)) for item in written),
        labels=content.labels,
        class_counts=content.class_counts,
        folds=content.folds,
        recipe=_recipe(table) if content.folds else "",
    )
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_file(folder / INDEX_FILE, buffer.getvalue())
    write_file(folder / INFO_FILE, info.to_json().encode())
    shutil.rmtree(folder / STATE_FOLDER)
    return info
