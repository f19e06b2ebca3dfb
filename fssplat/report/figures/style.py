"""The style of all figures, and how a figure becomes files: equal figures give equal bytes.

Figures have no title, since their captions say what they show. Colours are those of Okabe and Ito
(Color Universal Design, 2008), which people with colour-blindness can tell apart. Lines and text
are drawn in INK, which a page replaces by its own text colour, so that a figure is legible on a
light and on a dark page.
"""

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import Image

from fssplat.common.printing import one_line

INK = "#101112"  # replaced by the page's text colour
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c7a00", "#888888")
MARKERS = "osD^vP*X"
WIDTH = 7.0  # inches
DOTS_PER_INCH = 150
SETTINGS: Any = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "fssplat",
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is a name
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def figure(height: float, width: float = WIDTH) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes in the style of reports; inches."""
    from matplotlib.figure import Figure

    with own_style():
        made = Figure(figsize=(width, height), layout="constrained")
        yield made, made.add_subplot()


@contextmanager
def panels(count: int, columns: int, height: float) -> Iterator[tuple[Any, list[Any]]]:
    """A figure and the axes of its panels, row by row; the height of one panel in inches."""
    from matplotlib.figure import Figure

    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    with own_style():
        made = Figure(figsize=(WIDTH, 0.7 + rows * height), layout="constrained")
        axes = list(made.subplots(rows, columns, squeeze=False).flat)
        for unused in axes[count:]:
            unused.set_visible(False)
        yield made, axes[:count]


@contextmanager
def own_style() -> Iterator[None]:
    """matplotlib's defaults and SETTINGS, whatever a user's file or another library has set."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def drawable(text: str) -> str:
    """The text as a figure can show it: what its font lacks becomes its code, as U+1F600."""
    known = _letters()
    return "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in one_line(text))


@cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def saved(made: Any, kind: str) -> bytes:
    """The figure as `pdf`, `png` or `svg`, without the date and the version of the program."""
    nothing: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    }
    stream = io.BytesIO()
    background = {"facecolor": "white"} if kind == "png" else {"transparent": True}
    with own_style():
        made.savefig(stream, format=kind, dpi=DOTS_PER_INCH, metadata=nothing[kind], **background)
    return stream.getvalue()


def webp(png: bytes) -> str:
    """A PNG as WebP, in base64: a tenth of the bytes if it shows photographs."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, "webp", quality=82, method=4)
    return base64.b64encode(stream.getvalue()).decode()


def inline_svg(made: Any, name: str) -> str:
    """The figure for a page: no XML head, ids that no other figure has, ink as the text colour."""
    text = saved(made, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace(INK, "currentColor")
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*pt"', "", head)
    return f'{head} role="img">{rest}'.strip()
