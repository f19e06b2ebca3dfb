"""Manifests: the fixed evaluation episodes on which every method is scored.

A manifest is a pure function of the data set's fingerprint, the fold, the shot, the ways, the
episode seed and the protocol. `protocol.draw` decides how queries and their classes are drawn:

even         every class equally often, then a query of the class
class-first  a random class for each episode, then a query of the class (PANet)
image-first  all images in random order, again and again; then one class of the image
all-queries  all (image, class) pairs in order, again and again (HSNet's code on FSS-1000)
walk-list    the same draws as HSNet's code, which draws the class first on COCO
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fssplat.common.errors import InputError
from fssplat.data.episodes import hsnet_draws
from fssplat.data.episodes.candidates import (
    Candidates,
    novel_candidates,
    selection_candidates,
    with_enough_supports,
)
from fssplat.data.episodes.seeded_draws import Rows, pick, shuffled, stream
from fssplat.data.episodes.training import Episode, check_ways, queried_classes, ways, with_supports
from fssplat.data.index import Dataset, parquet_table
from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import digest

Part = Literal["novel", "selection"]  # the classes to test, or the classes to choose weights by
Query = tuple[int, int]  # row, class id
SCHEMA = pa.schema(
    [("query", pa.string()), ("supports", pa.list_(pa.string())), ("classes", pa.list_(pa.int32()))]
)


@dataclass(frozen=True)
class Manifest:
    """Episodes in order, and notes that are shown beside their results."""

    episodes: tuple[Episode, ...]
    name: str  # data set, fold, shot, ways, seed and protocol in words
    fingerprint: str  # of the data set
    dropped: tuple[str, ...] = ()  # names of classes with too few images
    notes: tuple[str, ...] = ()
    skipped_reason: str = ""  # why there is no episode; empty if there are some

    @cached_property
    def digest(self) -> str:
        """16 hex characters that identify the episodes and their data set."""
        rows = [[e.query, list(e.supports), list(e.classes)] for e in self.episodes]
        return digest(self.fingerprint, rows)


def manifest(
    dataset: Dataset,
    fold: int,
    shot: int,
    protocol: Protocol,
    episode_seed: int,
    way: int = 1,
    train_on: str = "",
    part: Part = "novel",
) -> Manifest:
    """The episodes of one fold and seed under a protocol.

    `train_on` names the data set of the training if it is another one. Raises InputError if a class
    has too few images, unless the protocol drops such classes. If too few classes remain, the
    manifest has no episode and a `skipped_reason`.
    """
    kind = "" if part == "novel" else f" {part} classes,"
    name = (
        f"{dataset.info.name} fold {fold},{kind} {way}-way {shot}-shot, "
        f"{protocol.draw} seed {episode_seed}, protocol {protocol.name} {protocol.hash}"
    )
    if part == "novel":
        listed = novel_candidates(dataset, fold, protocol, train_on)
    else:
        listed = selection_candidates(dataset, fold, protocol)
    candidates, short = with_enough_supports(dataset, listed, shot, protocol, way)
    dropped = tuple(dataset.info.classes[c - 1] for c in short)
    result = Manifest((), name, dataset.info.fingerprint, dropped, candidates.notes)
    remaining = len(queried_classes(candidates))
    if protocol.short_classes == "drop" and remaining < way:
        reason = (
            f"{remaining} of {len(listed.classes)} classes have images for {shot}-shot episodes"
        )
        return replace(result, skipped_reason=f"fold {fold}: {reason}, {way} needed")
    check_ways(dataset, candidates, way, f"fold {fold}")
    return replace(
        result, episodes=_drawn(dataset, candidates, shot, protocol, episode_seed, way, part)
    )


def _drawn(
    dataset: Dataset,
    candidates: Candidates,
    shot: int,
    protocol: Protocol,
    seed: int,
    way: int,
    part: str,
) -> tuple[Episode, ...]:
    count = protocol.episode_count(dataset.info.name)
    if protocol.draw in ("walk-list", "all-queries"):
        if way > 1:
            raise InputError(
                f"protocol {protocol.name}: draw {protocol.draw} has one class per episode. "
                f"Set way: 1, or protocol.draw: even."
            )
        return _hsnet_episodes(dataset, candidates, shot, count, seed)
    rng = stream("manifest", dataset.info.fingerprint, part, shot, way, seed, protocol.draw)
    episodes = []
    for query, class_id in islice(_QUERIES[protocol.draw](rng, candidates), count):
        classes = ways(rng, candidates, class_id, way)
        episodes.append(
            with_supports(rng, candidates, query, classes, shot, protocol.supports_repeat)
        )
    return tuple(episodes)


def _hsnet_episodes(
    dataset: Dataset, candidates: Candidates, shot: int, count: int, seed: int
) -> tuple[Episode, ...]:
    """The episodes of HSNet's code; an image is given by its row."""
    rows, ids, pools = (
        candidates.rows[candidates.query],
        candidates.ids[candidates.query],
        candidates.supports,
    )
    if dataset.info.name == "coco-20i":
        drawn = hsnet_draws.class_first(rows, ids, shot, count, seed, pools)
    elif dataset.info.name == "fss-1000":
        by_number = {c: _by_number(dataset, pool) for c, pool in pools.items()}
        drawn = hsnet_draws.in_list_order(rows, ids, shot, count, seed, by_number)
    else:
        drawn = hsnet_draws.in_list_order(rows, ids, shot, count, seed, pools)
    return tuple(Episode(query, supports, (class_id,)) for class_id, query, supports in drawn)


def _by_number(dataset: Dataset, rows: Rows) -> Rows:
    """A class's images from <class>_1 to <class>_10; sorted as text, 10 would precede 2."""
    return np.array(sorted(rows.tolist(), key=lambda r: (len(dataset.keys[r]), dataset.keys[r])))


# ---------------------------------------------------------------- infinite sequences of queries


def _even(rng: np.random.Generator, candidates: Candidates) -> Iterator[Query]:
    classes = queried_classes(candidates)
    while True:
        for place in shuffled(rng, len(classes)):
            class_id = classes[place]
            yield int(pick(rng, candidates.queries[class_id])), class_id


def _class_first(rng: np.random.Generator, candidates: Candidates) -> Iterator[Query]:
    classes = queried_classes(candidates)
    while True:
        class_id = pick(rng, classes)
        yield int(pick(rng, candidates.queries[class_id])), class_id


def _image_first(rng: np.random.Generator, candidates: Candidates) -> Iterator[Query]:
    images = list(candidates.classes_of)
    while True:
        for place in shuffled(rng, len(images)):
            yield images[place], pick(rng, candidates.classes_of[images[place]])


_QUERIES: dict[str, Callable[[np.random.Generator, Candidates], Iterator[Query]]] = {
    "even": _even,
    "class-first": _class_first,
    "image-first": _image_first,
}


# ---------------------------------------------------------------- files


def save(manifest: Manifest, dataset: Dataset, path: Path) -> None:
    """Write Parquet with images by key, so that other programs can read it."""
    keys = dataset.keys
    head = {k: v for k, v in asdict(manifest).items() if k != "episodes"}
    columns = {
        "query": [keys[e.query] for e in manifest.episodes],
        "supports": [[keys[row] for row in e.supports] for e in manifest.episodes],
        "classes": [list(e.classes) for e in manifest.episodes],
    }
    text = json.dumps({**head, "digest": manifest.digest})
    table = pa.table(columns, schema=SCHEMA).replace_schema_metadata({"manifest": text})
    pq.write_table(table, path, compression="zstd")


def load(path: Path, dataset: Dataset) -> Manifest:
    """Read a file of `save`. Raises InputError if it is damaged or of another data set."""
    try:
        table = parquet_table(path.read_bytes())
        head = json.loads((table.schema.metadata or {})[b"manifest"])
        written = head.pop("digest")
        head["dropped"], head["notes"] = tuple(head["dropped"]), tuple(head["notes"])
    except FileNotFoundError:
        raise InputError(f"{path}: no such manifest.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a manifest of fssplat, or cut short. Draw it again."
        ) from error
    if head["fingerprint"] != dataset.info.fingerprint:
        raise InputError(
            f"{path}: drawn from a data set with fingerprint {head['fingerprint']}; {dataset.root} "
            f"has {dataset.info.fingerprint}. Draw it again."
        )
    rows = zip(*(table[column].to_pylist() for column in SCHEMA.names), strict=True)
    row_of = dataset.row_of
    episodes = tuple(
        Episode(row_of(query), tuple(map(row_of, supports)), tuple(classes))
        for query, supports, classes in rows
    )
    found = Manifest(episodes, **head)
    if found.digest != written:
        raise InputError(f"{path}: its episodes were changed since it was drawn. Draw it again.")
    return found
