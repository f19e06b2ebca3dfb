"""Episodes of two methods side by side: the largest gains and losses, the median, the worst."""

from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.common.printing import command_line
from fssplat.report.blocks import Block, Row
from fssplat.report.document.content import Gallery, Part, Picture, Section, Text, Value
from fssplat.report.evidence.gather import Evidence
from fssplat.report.gallery.choice import EpisodePlace, Reason, chosen, places
from fssplat.report.gallery.masks import KeptMasks
from fssplat.report.gallery.tiles import FALSE, MISSED, OBJECT, webp
from fssplat.report.sections.labels import reference, row_name, short_title
from fssplat.results.store import Store

COLOURS = ((OBJECT, "object, found"), (MISSED, "missed"), (FALSE, "wrongly found"))
SIZES = ((0.01, "below 1 %"), (0.05, "1 to 5 %"), (0.2, "5 to 20 %"), (2.0, "above 20 %"))


def gallery(evidence: Evidence) -> Section | None:
    """A gallery per block; None if no picture is wanted or no block has two finished rows."""
    parts: list[Part] = []
    for block in evidence.blocks if evidence.options.episodes else ():
        pair = shown_pair(block, evidence)
        if pair is not None:
            parts.append(_of_block(block, *pair, KeptMasks(evidence)))
    return Section("episodes", "Episodes", tuple(parts)) if parts else None


def shown_pair(block: Block, evidence: Evidence) -> tuple[Row, Row] | None:
    """The finished row with the best mean, and the reference; if they are one row, the second."""
    means = [
        (mean, row)
        for row in block.rows
        if not row.unfinished and (mean := row.mean(block.folds)) is not None
    ]
    rows = [row for _, row in sorted(means, key=lambda item: -item[0])]
    if len(rows) < 2:
        return None
    in_order = [row for row in block.rows if row in rows]
    other = reference(in_order, evidence.options.against)
    return rows[0], (rows[1] if other is None or other is rows[0] else other)


def _of_block(block: Block, first: Row, second: Row, masks: KeptMasks) -> Part:
    """The gallery, or a text that says what is missing and how to get it."""
    evidence = masks.evidence
    names = row_name(first, block), row_name(second, block)
    title = f"{short_title(block)}: {names[0]} against {names[1]}"
    known = places(block, first, second, evidence)
    if not known:
        return Text(f"{title}. They have no episode in common, so none is shown.")
    drawable = [one for one in known if masks.has(one.first, one.index, one.second)]
    if not drawable:
        return Text(
            f"{title}. The store has no predicted masks of these trials, so no episode is shown: "
            "they ran with evaluation.keep=none, or before masks were kept."
        )
    picked = chosen(drawable, evidence.options.episodes)
    try:
        pictures = [_picture(reason, one, names, masks) for reason, one in picked]
    except InputError as error:
        return Text(f"{title}. No episode is shown: {error}")
    count = f"{len(pictures)} of {len(drawable)} episodes"
    reasons = "the largest gains and losses, those around the median, the worst of both"
    return Gallery(
        name=f"episodes-{block.name}",
        caption=f"{title}, {count}: {reasons}.",
        colours=tuple((f"rgb{colour}", text) for colour, text in COLOURS),
        pictures=tuple(pictures),
    )


def _picture(
    reason: Reason, one: EpisodePlace, names: tuple[str, str], masks: KeptMasks
) -> Picture:
    ious = one.first_iou, one.second_iou
    shown = masks.draw(one.index, {one.first: names[0], one.second: names[1]})
    episode = f"{shown.seed}:{shown.episode}" + (f":{shown.way}" if shown.way > 1 else "")
    facts: tuple[tuple[str, str | Value], ...] = (
        ("shown as", reason),
        ("class", shown.class_name),
        ("object size", size_name(shown.object_share)),
        ("fold", str(one.fold)),
        ("object, % of the image", Value(100 * shown.object_share)),
        *((f"IoU of {n}", Value(100 * iou)) for n, iou in zip(names, ious, strict=True)),
        ("difference", Value(100 * one.difference, signed=True)),
    )
    command = ["fssplat", "show", f"{one.first}:{episode}", "--against", one.second]
    text = f"{shown.class_name}, {reason}, {names[0]} {100 * ious[0]:.1f}, {names[1]} "
    return Picture(
        name=f"{one.first}:{episode}",
        alt=f"{text}{100 * ious[1]:.1f}",
        tiles=tuple(webp(tile) for tile in shown.tiles),
        facts=facts,
        command=command_line([*command, *_store_words(masks.evidence.stores[one.first])]),
    )


def _store_words(store: Store) -> list[str]:
    """The option that names the store; none for the folder results, which is the default."""
    if store.folder is not None and store.folder.resolve() == Path("results").resolve():
        return []
    return ["--store", store.shown_address]


def size_name(share: float) -> str:
    """The group of sizes that an object belongs to, by its share of the image."""
    return next(name for most, name in SIZES if share < most)
