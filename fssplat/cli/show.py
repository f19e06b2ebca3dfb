"""`fssplat show`: draw one episode."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from PIL import Image

    from fssplat.report.evidence.gather import Evidence

EPISODE = re.compile(r"([0-9a-f]{16}):(\d{1,9}):(\d{1,9})(?::(\d{1,3}))?")


def show(
    episode: str = typer.Argument(
        help="TRIAL:SEED:EPISODE, or TRIAL:SEED:EPISODE:WAY, as in the page of a report.",
        show_default=False,
    ),
    against: list[str] = typer.Option(
        [], "--against", metavar="TRIAL", help="Another trial with the same episodes; repeatable."
    ),
    store: str = typer.Option("results", "--store", help="The store of the trials."),
    data: str = typer.Option(
        "",
        "--data",
        metavar="FOLDER",
        help="The built data set.  [default: where the trial read it]",
        show_default=False,
    ),
    out: Path = typer.Option(Path("episode.png"), "--out", help="The picture, a PNG."),
    height: int = typer.Option(320, "--height", min=32, max=2000, help="Of an image, pixels."),
) -> None:
    """Draw one episode as a PNG: supports, query, truth, predictions.

    fssplat show 0123456789abcdef:0:66 --against fedcba9876543210

    TRIAL is the id of a finished trial, SEED the episode seed, EPISODE the position in its list,
    from 0. WAY, from 1, is needed for episodes with several ways only. The page of `fssplat report`
    prints this command below each episode; `fssplat status X.yaml --all` lists the ids of trials.

    Yellow pixels are the object, or a part of it that was found. Blue ones were missed, vermilion
    ones were wrongly taken for it. Grey pixels are not scored.

    It reads the store and the data set and loads no network. A trial without kept masks
    (evaluation.keep=none) shows supports, query and truth alone.
    """
    from fssplat.common.errors import InputError
    from fssplat.common.printing import say
    from fssplat.report.gallery.masks import KeptMasks
    from fssplat.report.gallery.sheet import sheet

    found = EPISODE.fullmatch(episode)
    if not found:
        raise InputError(
            f"{episode}: not an episode. Give TRIAL:SEED:EPISODE, e.g. 0123456789abcdef:0:66; the "
            "page of `fssplat report` names some."
        )
    first, seed, number, way = found[1], int(found[2]), int(found[3]), int(found[4] or 1)
    evidence = _evidence(store, list(dict.fromkeys([first, *against])), data)
    index = _index(evidence, first, (seed, number, way))
    titles = {one: _title(evidence, one, index) for one in evidence.trials}
    masks = KeptMasks(evidence)
    shown = masks.draw(index, titles)
    heading = f"{shown.class_name}, seed {seed}, episode {number}"
    made = sheet(heading, shown.tiles, height)
    _save(made, out)
    for one in evidence.trials:
        if masks.find(one, index) is None:
            say(f"{one}: the store has no predicted mask of this episode.")
    size = f"{100 * shown.object_share:.1f} % of the image"
    say(f"{heading}, object {size}: {', '.join(titles.values())}")
    say(f"The picture: {out}")


def _evidence(address: str, ids: list[str], data: str) -> "Evidence":
    from fssplat.cli.compare import evidence_of_ids
    from fssplat.common.errors import InputError
    from fssplat.report.evidence.by_id import is_id

    for one in ids:
        if not is_id(one):
            raise InputError(f"--against {one}: not the id of a trial.")
    evidence = evidence_of_ids(address, ids)
    if data:
        for one, trial in evidence.trials.items():
            place = trial.dataset.model_copy(update={"root": data})
            evidence.trials[one] = trial.model_copy(update={"dataset": place})
    return evidence


def _index(evidence: "Evidence", first: str, wanted: tuple[int, int, int]) -> int:
    """The row of the episode in the counts. Raises InputError if one of the trials lacks it."""
    from fssplat.common.errors import InputError

    counts = {one: evidence.counts(one) for one in evidence.trials}
    for one, found in counts.items():
        if found is None:
            raise InputError(evidence.problems[-1])
        mine = counts[first]
        if mine is not None and found.episodes != mine.episodes:
            raise InputError(f"--against {one}: has other episodes than {first}.")
    found = counts[first]
    assert found is not None
    rows = zip(found.seed.tolist(), found.episode.tolist(), found.way.tolist(), strict=True)
    places = {row: index for index, row in enumerate(rows)}
    if wanted not in places:
        seeds = ", ".join(map(str, sorted({seed for seed, _, _ in places})))
        last = max(episode for _, episode, _ in places)
        ways = max(way for _, _, way in places)
        raise InputError(
            f"{first}: has no episode {':'.join(map(str, wanted))}. Its seeds: {seeds}; its "
            f"episodes: 0 to {last}; its ways: 1 to {ways}."
        )
    return places[wanted]


def _title(evidence: "Evidence", trial_id: str, index: int) -> str:
    """The method and its IoU."""
    counts = evidence.counts(trial_id)
    iou = 100 * float(counts.iou[index]) if counts is not None else 0.0
    return f"{evidence.trials[trial_id].method.label} {iou:.1f}"


def _save(made: "Image.Image", out: Path) -> None:
    """Write the PNG. Raises InputError."""
    from fssplat.common.errors import InputError, described
    from fssplat.common.whole_files import write_whole

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, lambda temporary: made.save(temporary, format="png", optimize=True))
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({described(error)}).") from error
