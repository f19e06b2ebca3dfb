"""What a project of Label Studio asks for: the labels, and where they and the picture are."""

from dataclasses import dataclass
from xml.etree import ElementTree

from fssplat.common.errors import InputError

KINDS = {"BrushLabels": "brushlabels", "PolygonLabels": "polygonlabels"}  # the first is preferred
EXAMPLE = '<BrushLabels name="label" toName="image"><Label value="cat"/></BrushLabels>'


@dataclass(frozen=True)
class Labelling:
    """The part of a labelling interface that masks can be written to."""

    control: str  # name of the BrushLabels or PolygonLabels
    picture: str  # name of the Image
    kind: str  # brushlabels or polygonlabels
    field: str  # of a task's data: its picture
    labels: tuple[str, ...]


def labelling_in(config: str) -> Labelling:
    """Read a labelling interface. Raises InputError if masks cannot be written to it."""
    if "<!" in config.replace("<!--", ""):
        raise InputError("label_config: it declares entities or a type. Remove the declaration.")
    try:
        root = ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise InputError(f"label_config: it is not XML ({error}).") from error
    images = {one.get("name", ""): one for one in root.iter("Image")}
    for tag, kind in KINDS.items():
        for control in root.iter(tag):
            picture = images.get(control.get("toName", ""))
            labels = tuple(one.get("value", "") for one in control.iter("Label"))
            if picture is not None and labels:
                field = picture.get("value", "").lstrip("$")
                names = control.get("name", ""), picture.get("name", "")
                return Labelling(*names, kind, field, labels)
    raise InputError(f"label_config: no BrushLabels or PolygonLabels for an Image, as in {EXAMPLE}")
