"""Trials of a store by their ids, without an experiment file."""

from collections.abc import Sequence

from fssplat.common.errors import InputError
from fssplat.common.json_files import json_object
from fssplat.experiment.trial import Trial
from fssplat.report.evidence.gather import Source
from fssplat.results.reading import content
from fssplat.results.store import Store


def is_id(text: str) -> bool:
    """Whether a text has the form of a trial's id."""
    return len(text) == 16 and all(letter in "0123456789abcdef" for letter in text)


def source_of_ids(store: Store, ids: Sequence[str]) -> Source:
    """The trials with these ids. Raises InputError if one has no result or damaged settings."""
    results = store.results(ids)
    files = store.files.read_many([f"{one}/spec.json" for one in ids])
    trials = {}
    for one in ids:
        if one not in results:
            raise InputError(
                f"{one}: store {store.shown_address} has no result with this id. Name another "
                "store with --store; `fssplat status X.yaml --all` lists the ids."
            )
        try:
            settings = json_object(content(files[f"{one}/spec.json"]))
            trials[one] = Trial.model_validate(settings)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"store {store.shown_address}: {one}/spec.json is missing or damaged. Name the "
                "experiment with --of X.yaml and the methods in place of the ids."
            ) from error
    return Source("", "", "", store, trials, store.states(ids))
