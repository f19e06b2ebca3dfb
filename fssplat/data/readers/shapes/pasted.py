"""A mask of a part of a picture, put at its place."""

import numpy as np

from fssplat.data.readers.shapes.coco_shapes import Inside


def pasted(part: Inside, left: int, top: int, height: int, width: int) -> Inside:
    """[h, w], whose top left pixel is (left, top) -> [height, width].

    Raises ValueError if the part is not inside of the picture.
    """
    bottom, right = top + part.shape[0], left + part.shape[1]
    if part.ndim != 2 or left < 0 or top < 0 or bottom > height or right > width:
        raise ValueError(
            f"its mask of {' x '.join(map(str, part.shape))} at row {top}, column {left} is not "
            f"inside of {height} x {width} (height x width)"
        )
    whole = np.zeros((height, width), dtype=bool)
    whole[top:bottom, left:right] = part
    return whole
