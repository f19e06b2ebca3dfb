"""Turn the bytes of the store's JSON files into records. Damage is a ValueError with its reason."""

import math
from dataclasses import fields
from typing import Any, get_args

from fssplat.common.json_files import all_strings, is_count, is_number, json_object
from fssplat.common.plain_names import is_plain_path
from fssplat.results.records import (
    JobRecord,
    Result,
    ShotTime,
    State,
    Timing,
    TrainingRecord,
    TrialStatus,
)

# Values of a result's `about`, if they are there.
TEXTS = ("commit", "host", "job", "launch", "source", "training_source")
NUMBERS = ("finished_at", "training_seconds")
LATEST = 1e11  # seconds since 1970; a later time is damage
LONGEST_REASON = 10_000  # characters; a longer one is damage


def content(data: bytes | OSError) -> bytes:
    """The bytes of a file. Raises ValueError if the file could not be read."""
    if isinstance(data, OSError):
        raise ValueError(f"cannot be read ({data.strerror or data})")
    return data


def read_result(data: bytes | OSError) -> tuple[Result, dict[str, int]]:
    """A finished trial's result and the sizes of its files. Raises ValueError."""
    note = json_object(content(data))
    metrics, files = note.get("metrics"), note.get("files")
    notes: Any = note.get("notes")
    about: Any = note.get("about", {})
    if not isinstance(metrics, dict) or not all(map(is_number, metrics.values())):
        raise ValueError("its metrics are not numbers by name")
    if not all_strings(notes):
        raise ValueError("its notes are not a list of texts")
    if not isinstance(files, dict) or not all(map(is_count, files.values())) or not files:
        raise ValueError("its files are not sizes by name")
    if not all(map(is_plain_path, files)):
        raise ValueError("it names a file outside its folder")
    _check_about(about)
    sums: Any = note.get("sha256", {})
    if not isinstance(sums, dict) or not all_strings(list(sums.values())):
        raise ValueError("its checksums are not texts by name")
    return Result(metrics, tuple(notes), tuple(files), about, sums), files


def read_status(data: bytes | OSError) -> TrialStatus:
    """A trial's state. Raises ValueError."""
    note = json_object(content(data))
    state: Any = note.get("state")
    texts = [note.get(name, "") for name in ("reason", "job", "launch")]
    if state not in get_args(State):
        raise ValueError("its state is none of " + ", ".join(get_args(State)))
    if not all_strings(texts) or max(map(len, texts)) > LONGEST_REASON:
        raise ValueError("its reason, job or launch is not a text")
    return TrialStatus(state, texts[0], texts[1], texts[2], note.get("rerun") is True)


def read_job_record(data: bytes | OSError) -> JobRecord:
    """The cost of a job. Raises ValueError."""
    note = json_object(content(data))
    if set(note) != {field.name for field in fields(JobRecord)}:
        raise ValueError("its keys are not those of a job record")
    for field in fields(JobRecord):
        value = note[field.name]
        if not (isinstance(value, str) if field.type is str else _is_amount(value)):
            raise ValueError(f"its {field.name} is not valid")
    return JobRecord(**note)


def read_training_record(data: bytes | OSError) -> TrainingRecord:
    """What happened during a training. Raises ValueError."""
    note = json_object(content(data))
    resumed, scores = note.get("resumed"), note.get("scores")
    if not isinstance(resumed, list) or not all(map(is_count, resumed)):
        raise ValueError("its resumed is not a list of steps")
    if not isinstance(scores, dict) or not all(map(str.isdecimal, scores)):
        raise ValueError("its scores are not values by step")
    if not all(map(_is_amount, scores.values())):
        raise ValueError("its scores are not values by step")
    return TrainingRecord(tuple(resumed), {int(step): one for step, one in scores.items()})


def read_timing(data: bytes | OSError) -> Timing:
    """The cost of an episode. Raises ValueError."""
    note = json_object(content(data))
    hardware, busy = note.get("hardware"), note.get("busy")
    shots, parameters, about = (note.get(name) for name in ("shots", "parameters", "about"))
    if not isinstance(hardware, str) or not _is_amount(busy) or not isinstance(about, dict):
        raise ValueError("its hardware, busy or about is not valid")
    if not isinstance(parameters, dict) or not all(map(_is_amount, parameters.values())):
        raise ValueError("its parameters are not numbers by name")
    if not isinstance(shots, dict) or not all(map(str.isdecimal, shots)):
        raise ValueError("its shots are not times by number")
    names = {field.name for field in fields(ShotTime)}
    for one in shots.values():
        if not isinstance(one, dict) or set(one) != names or not all(map(_is_amount, one.values())):
            raise ValueError("a time of it is not valid")
    times = {int(shot): ShotTime(**one) for shot, one in shots.items()}
    return Timing(hardware, times, parameters, float(busy or 0), about)


def _check_about(about: Any) -> None:
    if not isinstance(about, dict):
        raise ValueError("its about is not an object")
    texts = [about.get(name, "") for name in TEXTS]
    numbers = [about.get(name, 0) for name in NUMBERS]
    if not all_strings(texts) or not is_plain_path(about.get("job", "k")):
        raise ValueError(f"its about has a wrong value among {', '.join(TEXTS)}")
    if not all(_is_amount(value) and value < LATEST for value in numbers):
        raise ValueError(f"its about has a wrong value among {', '.join(NUMBERS)}")


def _is_amount(value: Any) -> bool:
    return is_number(value) and math.isfinite(value) and value >= 0
