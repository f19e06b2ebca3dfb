"""The report of a search: its best point against the default, its history, what matters."""

from collections.abc import Iterator, Sequence

from fssplat.report.document.content import (
    Code,
    Document,
    Figure,
    Heading,
    Line,
    Part,
    Points,
    Section,
    Table,
    Text,
    Value,
    shown,
    text_headings,
)
from fssplat.report.evidence.study import Setting, StudyPoint, StudyRecord
from fssplat.report.figures.bars import horizontal_bars
from fssplat.report.figures.points import history, parallel_coordinates
from fssplat.report.statistics.classes import class_interval

AXIS = "mIoU, %"
MOST_POINTS = 300  # that the table lists
MOST_AXES = 10  # settings that one figure can show


def study_document(record: StudyRecord) -> Document:
    """The whole report of a study with at least one ended point."""
    sections = [Section("verdict", "Verdict", tuple(_verdict(record)))]
    figures = list(_figures(record))
    if figures:
        sections.append(Section("figures", "What the search found", tuple(figures)))
    sections.append(Section("points", "Points", (points_table(record),)))
    facts = Table(
        name="study",
        caption="The study.",
        headings=text_headings("fact", "value"),
        lines=tuple(Line((name, text)) for name, text in record.facts.items()),
        sortable=False,
    )
    made: tuple[Part, ...] = Code(record.command, "Command"), facts
    sections.append(Section("provenance", "How it was made", made))
    return Document(f"Search: {record.name}", tuple(sections))


def _verdict(record: StudyRecord) -> Iterator[Part]:
    yield Text(f"{record.name}: {record.claim}" if record.claim else record.name, "verdict")
    yield Points((_best(record), *_against_default(record)))
    warnings = list(_warnings(record))
    if warnings:
        yield Points(tuple(warnings), "Warnings", "warning")


def _best(record: StudyRecord) -> str:
    best = record.best
    states = [one.state for one in record.points]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    start = f"{len(record.points)} of {record.wanted} points have ended ({counts})."
    if best is None:
        return f"{start} No point is complete."
    return f"{start} Point {best.number} has the best mIoU, {_percent(best.values['miou'])} %."


def _against_default(record: StudyRecord) -> Iterator[str]:
    """The difference of the best point to the default, with its interval over trainings."""
    best, default = record.best, record.default
    if best is None:
        return
    if default is None:
        yield "The default values have no complete point, so there is nothing to compare with."
        return
    if best is default:
        yield "It is the default: no other point is better."
        return
    difference = best.values["miou"] - default.values["miou"]
    text = f"Difference to the default, point {default.number}: {_points(difference)} points"
    common = [name for name in best.parts if name in default.parts]
    parts = {n: best.parts[name] - default.parts[name] for n, name in enumerate(common)}
    interval = class_interval([parts]) if len(parts) == len(best.parts) else None
    if interval is None:
        yield f"{text}. There is one training per point, so no interval can be given."
        return
    ends = f"[{_points(interval.low)}, {_points(interval.high)}]"
    clear = "" if interval.low > 0 or interval.high < 0 else " The interval contains 0."
    yield (
        f"{text} {ends}: Student's 95 % interval over the {len(parts)} trainings of a point "
        f"(folds and training seeds).{clear}"
    )


def _warnings(record: StudyRecord) -> Iterator[str]:
    if record.on_novel_classes:
        yield "Points were scored on the novel classes: the best one is no few-shot result."
    if record.best is not None and record.best is not record.default:
        yield (
            "The best of many points looks better than it is, because it was chosen by these "
            "scores. Launch best.yaml and compare it with the default on the novel classes."
        )
    if len(record.points) < record.wanted:
        yield f"The study is not finished: {record.wanted - len(record.points)} points are missing."
    for one in record.points:
        if one.state in ("failed", "diverged"):
            yield f"Point {one.number} {one.state}: {one.reason or 'no reason is recorded'}."


def points_table(record: StudyRecord) -> Table:
    """Complete points first, best mIoU first."""
    ordered = sorted(record.points, key=lambda one: (-one.values.get("miou", -1.0), one.number))
    listed = ordered[:MOST_POINTS]
    best = record.best
    lines = []
    for one in listed:
        values = [
            Value(_in_unit(name, one), 2 if name == "miou" else 1,
                  rank="best" if one is best and name == "miou" else "")
            for name in record.objectives
        ]  # fmt: skip
        settings = (_setting(one.settings.get(each.name, "")) for each in record.parameters)
        remark = "the default" if one.is_default else one.reason
        lines.append(Line((Value(one.number, 0), one.state, *values, *settings, remark)))
    numbers = ("mIoU, %" if name == "miou" else name for name in record.objectives)
    cut = f" The best {len(listed)} of {len(ordered)}." if len(listed) < len(ordered) else ""
    return Table(
        name="points",
        caption=f"All points of {record.method}, mIoU on {record.scored_on}.{cut}",
        headings=(
            Heading("point"),
            Heading("state", numeric=False),
            *map(Heading, numbers),
            *text_headings(*(one.name for one in record.parameters), "remark"),
        ),
        lines=tuple(lines),
    )


def _figures(record: StudyRecord) -> Iterator[Figure]:
    complete = record.complete
    if not complete:
        return
    yield Figure(
        "history",
        f"mIoU of every complete point on {record.scored_on}, in the order of the points.",
        lambda: history(complete, AXIS),
        points_table(record),
    )
    if record.importance:
        names = sorted(record.importance, key=lambda name: -record.importance[name])
        shares: Sequence[float] = [100 * record.importance[name] for name in names]
        lines = [Line((n, Value(share))) for n, share in zip(names, shares, strict=True)]
        caption = (
            "Share of the variance of mIoU over the points that each setting explains (fANOVA). "
            "With few points it is uncertain."
        )
        headings = Heading("setting", numeric=False), Heading("importance, %")
        yield Figure(
            "importance",
            caption,
            lambda: horizontal_bars(names, {"importance": shares}, "importance, %"),
            Table("importance", caption, headings, tuple(lines)),
        )
    used = [one for one in record.parameters if any(one.name in p.settings for p in complete)]
    if len(used) > 1 and len(complete) > 1:
        most = sorted(used, key=lambda one: -record.importance.get(one.name, 0.0))[:MOST_AXES]
        cut = f" The {MOST_AXES} most important of {len(used)} settings." if most != used and len(
            used) > MOST_AXES else ""  # fmt: skip
        yield Figure(
            "parallel-coordinates",
            "Every complete point as a line over its settings; light lines have a high mIoU. A "
            f"line leaves out the settings that its point does not use.{cut}",
            lambda: parallel_coordinates(complete, most, AXIS),
            points_table(record),
        )


def _in_unit(name: str, point: StudyPoint) -> float | None:
    value = point.values.get(name)
    if value is None and name == "miou" and point.parts:
        value = sum(point.parts.values()) / len(point.parts)
    return None if value is None else value * (100 if name == "miou" else 1)


def _setting(value: Setting) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _percent(value: float) -> str:
    return shown(100 * value, 2)


def _points(value: float) -> str:
    return shown(100 * value, 2, signed=True)
