"""One episode as one picture: tiles in rows with their titles, a heading, and a legend."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from fssplat.report.figures.style import drawable
from fssplat.report.gallery.tiles import FALSE, MISSED, OBJECT, Drawn, small

GAP = 10  # pixels
WIDTH = 1400  # pixels of a sheet, unless one tile is wider
TEXT = 16  # height of letters, pixels
LINE = 24  # height of a line of text, pixels
LEGEND = ((OBJECT, "found"), (MISSED, "missed"), (FALSE, "wrongly found"))


def sheet(heading: str, tiles: Sequence[Drawn], height: int) -> Image.Image:
    """All tiles at most `height` pixels high, as many in a row as WIDTH has room for."""
    pictures = [(tile.title, small(tile, height)) for tile in tiles]
    rows: list[list[tuple[str, Image.Image]]] = [[]]
    for title, picture in pictures:
        used = sum(image.width + GAP for _, image in rows[-1])
        if rows[-1] and used + picture.width > WIDTH - 2 * GAP:
            rows.append([])
        rows[-1].append((title, picture))
    widths = [sum(image.width + GAP for _, image in row) for row in rows]
    heights = [max(image.height for _, image in row) + LINE + GAP for row in rows]
    font = _font()
    width = max([*widths, round(font.getlength(drawable(heading))) + GAP]) + GAP
    made = Image.new("RGB", (width, 2 * LINE + GAP + sum(heights) + GAP), "white")
    pen = ImageDraw.Draw(made)
    pen.text((GAP, GAP), drawable(heading), fill="black", font=font)
    top = LINE + GAP
    for row, row_height in zip(rows, heights, strict=True):
        left = GAP
        for title, picture in row:
            pen.text((left, top), _cut(drawable(title), picture.width, font), "black", font)
            made.paste(picture, (left, top + LINE))
            left += picture.width + GAP
        top += row_height
    _legend(pen, top, font)
    return made


def _legend(pen: ImageDraw.ImageDraw, top: int, font: ImageFont.FreeTypeFont) -> None:
    left = GAP
    for colour, text in LEGEND:
        pen.rectangle((left, top + 2, left + TEXT, top + 2 + TEXT), fill=colour, outline="black")
        pen.text((left + TEXT + 6, top), text, "black", font)
        left += TEXT + 6 + round(font.getlength(text)) + 2 * GAP


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, shortened to this width in pixels."""
    while text and font.getlength(text) > width:
        text = text[:-2] + "…" if len(text) > 1 else ""
    return text


def _font() -> ImageFont.FreeTypeFont:
    from matplotlib.font_manager import findfont

    return ImageFont.truetype(findfont("DejaVu Sans"), TEXT)
