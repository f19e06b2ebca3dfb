"""The outlines of a mask as polygons that cover the same pixels.

An outline follows the edges of pixels. The outline of a hole is joined to that of its region by a
line that is passed in both directions, because the formats have no holes.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Corner = tuple[int, int]  # x, y
Inside = npt.NDArray[np.bool_]  # [H, W]


def outlines(inside: Inside) -> list[list[Corner]]:
    """A polygon for each region of pixels that share an edge, largest first.

    Corners are pixels' corners: x from 0 to W and y from 0 to H.
    """
    regions, count = ndimage.label(inside)
    boxes = ndimage.find_objects(regions)
    found = []
    for number in range(1, count + 1):
        rows, columns = boxes[number - 1]
        part = regions[rows, columns] == number
        loops = _loops(part)
        outer = _joined(loops)
        shifted = [(x + columns.start, y + rows.start) for x, y in outer]
        found.append((int(part.sum()), shifted))
    return [outline for _, outline in sorted(found, key=lambda item: -item[0])]


def _loops(part: Inside) -> list[list[Corner]]:
    """The closed outlines of one region, the outer one first."""
    following = _edges(part)
    loops = []
    while following:
        start = min(following)
        loop, corner, before = [start], start, (0, 0)
        while True:
            choices = following[corner]
            step = _next_step(choices, corner, before)
            choices.remove(step)
            if not choices:
                del following[corner]
            before, corner = (step[0] - corner[0], step[1] - corner[1]), step
            if corner == start:
                break
            loop.append(corner)
        loops.append(_without_straight(loop))
    return sorted(loops, key=lambda loop: min(loop))


def _edges(part: Inside) -> dict[Corner, list[Corner]]:
    """Directed edges between a pixel inside and one outside, with the inside at the right."""
    padded = np.pad(part, 1)
    edges: dict[Corner, list[Corner]] = {}

    def add(places: npt.NDArray[np.bool_], start: Corner, end: Corner) -> None:
        for y, x in np.argwhere(places).tolist():
            edges.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))

    add(part & ~padded[:-2, 1:-1], (0, 0), (1, 0))
    add(part & ~padded[1:-1, 2:], (1, 0), (1, 1))
    add(part & ~padded[2:, 1:-1], (1, 1), (0, 1))
    add(part & ~padded[1:-1, :-2], (0, 1), (0, 0))
    return edges


def _next_step(choices: list[Corner], corner: Corner, before: Corner) -> Corner:
    """Where two outlines touch in a corner, the one that turns to the right goes on."""
    if len(choices) == 1:
        return choices[0]
    right = (corner[0] - before[1], corner[1] + before[0])
    return right if right in choices else choices[0]


def _without_straight(loop: list[Corner]) -> list[Corner]:
    """The corners at which the direction changes."""
    kept = []
    for before, corner, after in zip(
        [loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True
    ):
        straight = (corner[0] - before[0]) * (after[1] - corner[1]) == (
            (corner[1] - before[1]) * (after[0] - corner[0])
        )
        if not straight:
            kept.append(corner)
    return kept


def _joined(loops: list[list[Corner]]) -> list[Corner]:
    """One outline from the outer one and those of the holes, by the shortest lines."""
    outer = loops[0]
    for hole in loops[1:]:
        places, others = np.array(outer), np.array(hole)
        distance = np.abs(places[:, None] - others[None]).sum(axis=2)
        at, start = np.unravel_index(int(distance.argmin()), distance.shape)
        turned = [*hole[start:], *hole[: start + 1]]
        outer = [*outer[: at + 1], *turned, *outer[at:]]
    return outer
