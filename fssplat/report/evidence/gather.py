"""Collects what a report is made of: trials, results, counts, and every problem with them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fssplat.common.errors import InputError
from fssplat.engine.scoring.kept.names import DETAILS
from fssplat.experiment.trial import Trial
from fssplat.report.blocks import Block, blocks
from fssplat.report.evidence.counts import Counts, read_counts
from fssplat.report.evidence.merge import merged, numbered
from fssplat.results.episodes.details import Details, read_details
from fssplat.results.reading import content
from fssplat.results.records import Result, TrialStatus
from fssplat.results.store import Store, sha256

EPISODES = "episodes.parquet"


@dataclass(frozen=True)
class Source:
    """One experiment of a report, as its file and the store describe it."""

    name: str
    claim: str
    command: str  # the command line that launches it
    store: Store
    trials: Mapping[str, Trial]
    states: Mapping[str, TrialStatus]
    fingerprints: Mapping[str, str] = field(default_factory=dict)  # of data sets and weights
    notes: tuple[str, ...] = ()  # for the reader, such as: the data set is not on this machine

    def command_of(self, name: str) -> str:
        """The command line of another command on the same experiment, e.g. of `time`."""
        launch = self.command or "fssplat launch X.yaml"
        return launch.replace("fssplat launch", f"fssplat {name}", 1)


@dataclass(frozen=True)
class Options:
    """What the reader asked for."""

    against: str = ""  # label of the method that others are compared with; empty: the first row
    published: bool = False  # show printed results beneath ours
    episodes: int = 12  # in the gallery of each table
    maps: bool = False  # open the models, and show what they compute inside
    prototypes: int = 200  # points of a t-SNE panel, at most


@dataclass
class Evidence:
    """The trials and results of all experiments. Reading damaged files adds to `problems`."""

    sources: Sequence[Source]
    options: Options = field(default_factory=Options)
    problems: list[str] = field(default_factory=list)  # sentences for the verdict
    _counts: dict[str, Counts | None] = field(default_factory=dict)
    _details: dict[str, Details | None] = field(default_factory=dict)

    @cached_property
    def trials(self) -> dict[str, Trial]:
        return {one: trial for source in self.sources for one, trial in source.trials.items()}

    @cached_property
    def states(self) -> dict[str, TrialStatus]:
        return {one: status for source in self.sources for one, status in source.states.items()}

    @cached_property
    def stores(self) -> dict[str, Store]:
        """The store of each trial."""
        return {one: source.store for source in self.sources for one in source.trials}

    @cached_property
    def results(self) -> dict[str, Result]:
        found: dict[str, Result] = {}
        for source in self.sources:
            states = source.states
            shown = [i for i in source.trials if states[i].state == "finished" or states[i].rerun]
            found |= source.store.results(shown)
        return found

    @cached_property
    def blocks(self) -> list[Block]:
        """The tables, in the order of the grids.

        If two experiments have a method under one name with other settings, its rows are named
        after their experiments.
        """
        names = [source.name for source in self.sources]
        of_sources = [blocks(source.trials, self.results) for source in self.sources]
        return merged(dict(zip(numbered(names), of_sources, strict=True)))

    def check(self) -> None:
        """Raises InputError for an experiment without any result, or an unknown method."""
        if not self.results:
            names = ", ".join(source.name for source in self.sources)
            stores = ", ".join(dict.fromkeys(one.store.shown_address for one in self.sources))
            raise InputError(
                f"{names}: no trial has a result in store {stores}. Run "
                f"`{self.sources[0].command}`, or name the store with --set store=<folder>."
            )
        known = [row.method for block in self.blocks for row in block.rows]
        wanted = self.options.against
        if wanted and wanted not in [*known, *(name.partition(":")[0] for name in known)]:
            listed = ", ".join(dict.fromkeys(known))
            raise InputError(f"--against {wanted}: no row has this method. Known: {listed}.")

    def counts(self, trial_id: str) -> Counts | None:
        """The counts of a finished trial; None, with a problem noted, if its file is damaged."""
        if trial_id not in self._counts:
            self._counts[trial_id] = self._read_counts(trial_id)
        return self._counts[trial_id]

    def _read_counts(self, trial_id: str) -> Counts | None:
        data = self.read(trial_id, EPISODES)
        if data is None:
            return None
        try:
            return read_counts(data, str(self.trials[trial_id].protocol.score[0]))
        except ValueError as error:
            self.note(trial_id, f"its {EPISODES} {error}")
            return None

    def details(self, trial_id: str) -> Details | None:
        """Where a finished trial's wrong pixels are.

        Returns None if the trial is older than this record, and, with a problem noted, if the
        file is damaged.
        """
        if trial_id not in self._details:
            self._details[trial_id] = self._read_details(trial_id)
        return self._details[trial_id]

    def _read_details(self, trial_id: str) -> Details | None:
        if DETAILS not in self.results[trial_id].files:
            return None
        data = self.read(trial_id, DETAILS)
        try:
            return None if data is None else read_details(data)
        except ValueError as error:
            self.note(trial_id, f"its {DETAILS} {error}")
            return None

    def read(self, trial_id: str, name: str) -> bytes | None:
        """A file of a result; None, with a problem noted, if it is missing or not as written."""
        files = self.stores[trial_id].files.read_many([f"{trial_id}/{name}"])
        try:
            data = content(files[f"{trial_id}/{name}"])
        except KeyError:
            self.note(trial_id, f"its {name} is missing")
            return None
        except ValueError as error:
            self.note(trial_id, f"its {name} {error}")
            return None
        wanted = self.results[trial_id].checksums.get(name)
        if wanted and sha256(data) != wanted:
            self.note(trial_id, f"its {name} is not as it was written")
            return None
        return data

    def note(self, trial_id: str, problem: str) -> None:
        """Add a problem with a trial, once."""
        line = f"{self.trials[trial_id].title} ({trial_id}): {problem}."
        if line not in self.problems:
            self.problems.append(line)

    def unfinished(self) -> Iterator[tuple[str, str]]:
        """The title of each trial without a result, and why."""
        for trial_id, trial in self.trials.items():
            if trial_id not in self.results:
                status = self.states[trial_id]
                yield trial.title, ": ".join(filter(None, (status.state, status.reason)))

    def other_results(self) -> int:
        """How many trials of the stores belong to no experiment of this report."""
        stores = {source.store.address: source.store for source in self.sources}
        folders = {one for store in stores.values() for one in store.files.folders()}
        ids = {one for one in folders if len(one) == 16 and one.isalnum()}
        return len(ids - set(self.trials))
