"""Folders with pictures and annotations from which no data set can be built."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.bad_inputs.case import Case, Folder, Make
from tests.fakes.official_layouts import coco_layout, fss_layout, noise_jpeg, voc_layout

PASCAL = "data build pascal-5i --source s --out o --workers 1"
COCO = "data build coco-20i --source s --out o --workers 1"
FSS = "data build fss-1000 --source s --out o --workers 1"
OWN = "data build cells --source s --out o --workers 1"
LIST = "VOC2012/ImageSets/Segmentation/train.txt"
PICTURE, LABEL, MAT = (
    "VOC2012/JPEGImages/t0.jpg", "VOC2012/SegmentationClass/t0.png", "SBD/dataset/cls/x0.mat",
)  # fmt: skip
INSTANCES = "annotations/instances_train2017.json"
LEFT = ("o", "o/*")  # a build that stops with bad images keeps its report and what it has done
AGAIN = "run the same command again, or leave these images out with --skip-bad"
SQUARE = [1, 1, 12, 1, 12, 12, 1, 12]
NAN, FAR = float("nan"), 1e300


# ------------------------------------------------------------------ changes of a sound source


def content(name: str, data: str | bytes) -> Callable[[Path], object]:
    return lambda s: (s / name).write_bytes(data.encode() if isinstance(data, str) else data)


def pipe(name: str) -> Callable[[Path], None]:
    def change(s: Path) -> None:
        (s / name).unlink()
        os.mkfifo(s / name)

    return change


def voc(change: Callable[[Path], object]) -> Make:
    return lambda folder: change(voc_layout(folder.path / "s"))


def fss(change: Callable[[Path], object]) -> Make:
    classes = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}
    return lambda folder: change(fss_layout(folder.path / "s", classes))


def coco(change: Callable[[dict[str, Any]], object]) -> Make:
    """COCO with one object in each image; `change` gets the JSON of the training images."""

    def make(folder: Folder) -> None:
        one = {"id": 1, "category_id": 2, "segmentation": [SQUARE], "area": 100}
        path = coco_layout(folder.path / "s", {"train": [one], "val": [one]}) / INSTANCES
        whole = json.loads(path.read_bytes())
        change(whole)
        path.write_text(json.dumps(whole))

    return make


def annotation(**values: Any) -> Make:
    return coco(lambda whole: whole["annotations"][0].update(values))


def picture(**values: Any) -> Make:
    return coco(lambda whole: whole["images"][0].update(values))


def coco_file(change: Callable[[Path], object]) -> Make:
    def make(folder: Folder) -> None:
        annotation()(folder)
        change(folder.path / "s")

    return make


def pictures(folder: Folder, number: int = 4) -> None:
    for one in range(number):
        folder.write(f"s/{one}.jpg", noise_jpeg(one))


def labelme(values: Mapping[str, Any], shape: Mapping[str, Any] | None = None) -> Make:
    """Four pictures with LabelMe's JSON; the first has other values."""

    def make(folder: Folder) -> None:
        pictures(folder)
        for one in range(4):
            triangle: dict[str, Any] = {
                "label": "ab"[one % 2], "points": [[1, 1], [12, 1], [12, 12]],
                "shape_type": "polygon",
            }  # fmt: skip
            changed = {**triangle, **(shape or {})} if not one else triangle
            whole = {"shapes": [changed], "imagePath": f"{one}.jpg"}
            folder.write(f"s/{one}.json", json.dumps({**whole, **({} if one else values)}))

    return make


def yolo(line: str | bytes, names: str = "[a, b]") -> Make:
    def make(folder: Folder) -> None:
        for one in range(4):
            folder.write(f"s/images/{one}.jpg", noise_jpeg(one))
            folder.write(f"s/labels/{one}.txt", f"{one % 2} 0.1 0.1 0.5 0.1 0.5 0.5\n")
        folder.write("s/labels/0.txt", line)
        folder.write("s/data.yaml", f"names: {names}\n")

    return make


def cvat(inner: str) -> Make:
    def make(folder: Folder) -> None:
        pictures(folder)
        image = f'<image id="0" name="0.jpg" width="32" height="24">{inner}</image>'
        folder.write("s/annotations.xml", f"<annotations>{image}</annotations>")

    return make


def sbd_label(values: Any) -> Make:
    def change(s: Path) -> None:
        from scipy.io import savemat

        savemat(s / MAT, {"GTcls": {"Segmentation": values}})

    return voc(change)


# ------------------------------------------------------------------ the cases


def bad_image(name: str, make: Make, what: str, where: str, command: str) -> Case:
    """A case in which one image cannot be used."""
    return Case(name, make, what, where, AGAIN, command=command, leaves=LEFT)


def bad_region(name: str, segmentation: Any, what: str) -> Case:
    make = annotation(segmentation=segmentation)
    return bad_image(f"coco {name}", make, what, f"s/{INSTANCES}: image 1", COCO)


def bad_coco(name: str, make: Make, what: str, to_do: str = "Download it again") -> Case:
    return Case(f"coco {name}", make, what, f"s/{INSTANCES}", to_do, command=COCO)


def bad_labelme(name: str, make: Make, what: str, to_do: str = "save it again") -> Case:
    return Case(f"labelme {name}", make, what, "s/0.json", to_do, command=OWN)


def bad_yolo(name: str, make: Make, what: str, where: str, to_do: str) -> Case:
    return Case(f"yolo {name}", make, what, where, to_do, command=OWN)


def rle(counts: Any, size: Any = (24, 32)) -> dict[str, Any]:
    return {"size": list(size) if isinstance(size, tuple) else size, "counts": counts}


OK = "0 0.1 0.1 0.5 0.1 0.5 0.5\n"
# fmt: off
CASES = [
    # ------------------------------------------------------------ VOC and SBD
    Case("voc folder that is empty", lambda f: (f.path / "s").mkdir(), "no VOC2012 there", "s:",
         "Give --source the folder", command=PASCAL),
    Case("voc list that is missing", voc(lambda s: (s / LIST).unlink()), "this list is missing",
         LIST, "Unpack the official archive again", command=PASCAL),
    Case("voc list that is empty", voc(content(LIST, "")), "this list is empty", LIST,
         "Unpack the official archive again", command=PASCAL),
    Case("voc list of bytes", voc(content(LIST, bytes(range(256)))), "not a list of names", LIST,
         "Unpack it again", command=PASCAL),
    Case("voc list in UTF-16", voc(content(LIST, "t0\n".encode("utf-16"))), "not a list of names",
         LIST, "Unpack it again", command=PASCAL),
    Case("voc list with a path", voc(content(LIST, "../../x\n")), "'../../x' cannot be used", LIST,
         "needed is a plain name", command=PASCAL),
    bad_image("voc list with a missing image", voc(content(LIST, "t0\nnope\n")),
              "the image is missing", "s/VOC2012/JPEGImages/nope.jpg", PASCAL),
    bad_image("voc image that is a page", voc(content(PICTURE, "<html>404")), "it is no picture",
              f"s/{PICTURE}", PASCAL),
    bad_image("voc image that is empty", voc(content(PICTURE, "")), "the file is empty",
              f"s/{PICTURE}", PASCAL),
    bad_image("voc image that is a pipe", voc(pipe(PICTURE)), "it is a pipe or a device",
              f"s/{PICTURE}", PASCAL),
    bad_image("voc label that is a pipe", voc(pipe(LABEL)), "it is a pipe or a device",
              f"s/{LABEL}", PASCAL),
    bad_image("voc label that is empty", voc(content(LABEL, "")), "the label cannot be read",
              f"s/{LABEL}", PASCAL),
    bad_image("sbd label that is text", voc(content(MAT, "text")), "the label cannot be read",
              f"s/{MAT}", PASCAL),
    bad_image("sbd label that is a pipe", voc(pipe(MAT)), "it is a pipe or a device", f"s/{MAT}",
              PASCAL),
    bad_image("sbd label of NaN", sbd_label(np.full((24, 32), np.nan)),
              "values other than 0, 1, 2, .. 255", f"s/{MAT}", PASCAL),
    bad_image("sbd label in colour", sbd_label(np.zeros((24, 32, 3), np.uint8)),
              "not an array of numbers [H, W]", f"s/{MAT}", PASCAL),
    # ------------------------------------------------------------ COCO's numbers
    bad_region("far corner", [[1, 1, FAR, 1, 12, 12]], "a corner at x = 1e+300"),
    bad_region("corner that is no number", [[1, 1, NAN, 1, 12, 12]], "a corner at x = nan"),
    bad_region("huge whole number", [[10**30, 1, 2, 3, 4, 5]], "a corner at x = 1e+30"),
    bad_region("odd count", [[1, 1, 12, 1, 12]], "an odd number of coordinates, 5"),
    bad_region("two corners", [[1, 1, 12, 12]], "fewer than three corners"),
    bad_region("no polygon", [], "it has no polygon"),
    bad_region("corners of text", [["a"] * 6], "a polygon is not a list of numbers"),
    bad_region("corners of truth values", [[True] * 6], "a polygon is not a list of numbers"),
    bad_region("segmentation that is a number", 3, "neither a list of polygons nor an RLE"),
    bad_region("short RLE", rle([3]), "add up to 3 pixels, not 768"),
    bad_region("long RLE", rle([768, 5]), "add up to 773 pixels, not 768"),
    bad_region("negative RLE", rle([-5, 773]), "a run of -5 pixels"),
    bad_region("RLE of another size", rle([768], (32, 24)), "an RLE is 32 x 24"),
    bad_region("RLE of a huge size", rle([768], (2**31, 2**31)), "an RLE is 2147483648 x"),
    bad_region("RLE whose size is text", rle([768], "big"), "not two whole numbers"),
    bad_region("RLE of bytes that are none", rle("garbage \x00"), "compressed RLE is damaged"),
    bad_region("RLE without counts", {"size": [24, 32]}, "neither a list of polygons nor an RLE"),
    bad_image("coco unknown category", annotation(category_id=999), "category 999 is not in",
              f"s/{INSTANCES}: image 1", COCO),
    bad_image("coco image of a huge size", picture(height=10**12), "more than a JPEG has",
              f"s/{INSTANCES}: image 1", COCO),
    bad_coco("crowd that is a text", annotation(iscrowd="yes"), "has iscrowd 'yes'"),
    bad_coco("crowd of two", annotation(iscrowd=2), "has iscrowd 2"),
    bad_coco("category that is a list", annotation(category_id=[2]), "not COCO's instances"),
    bad_coco("annotation of no image", annotation(image_id=77), "image 77 has annotations"),
    bad_coco("image without height", picture(height=0), "image 1 has height 0"),
    bad_coco("image whose height is text", picture(height="24"), "image 1 has height '24'"),
    bad_coco("image elsewhere", picture(file_name="../x.jpg"), "'../x.jpg' cannot be used",
             "needed is a plain name"),
    bad_coco("image without images", coco(lambda w: w.pop("images")), "'images' is missing"),
    bad_coco("79 categories", coco(lambda w: w["categories"].pop()), "79 categories"),
    bad_coco("file that is cut", coco_file(content(INSTANCES, '{"images": [')),
             "cut short or not JSON"),
    bad_coco("file that is nested", coco_file(content(INSTANCES, "[" * 100_000)),
             "nested too deeply"),
    bad_coco("file that is a list", coco_file(content(INSTANCES, "[]")), "not COCO's instances"),
    # ------------------------------------------------------------ FSS-1000
    Case("fss folder that is empty", lambda f: (f.path / "s").mkdir(), "no class lists there",
         "s:", "Give their folder with --lists", command=FSS),
    Case("fss list of training that is empty", fss(content("train.txt", "")),
         "that of training is empty", "class lists", "Give complete ones", command=FSS),
    Case("fss class in two lists", fss(content("train.txt", "a\nb\nc\n")), "c is listed twice",
         "class lists", "Keep one entry", command=FSS),
    Case("fss class that is missing", fss(content("train.txt", "a\nb\nnope\n")),
         "have no folder there (nope)", "s:", "Give --source the folder", command=FSS),
    bad_image("fss image without its mask", fss(lambda s: (s / "a/1.png").unlink()),
              "the label is missing", "s/a/1.png", FSS),
    bad_image("fss mask that is a pipe", fss(pipe("a/1.png")), "it is a pipe or a device",
              "s/a/1.png", FSS),
    # ------------------------------------------------------------ your own annotations
    Case("own folder that is empty", lambda f: (f.path / "s").mkdir(),
         "no annotations that are known", "s:", "Known layouts (--layout)", command=OWN),
    bad_labelme("label that is empty", labelme({}, {"label": ""}),
                "a shape has no name of a class"),
    bad_labelme("label that is null", labelme({}, {"label": None}),
                "a shape has no name of a class"),
    bad_labelme("corners of text", labelme({}, {"points": [["a", "b"]] * 3}),
                "points of shape 'a' is not a list of numbers"),
    bad_labelme("unknown shape", labelme({}, {"shape_type": "blob"}), "shape 'a' is a blob"),
    bad_labelme("shapes that are text", labelme({"shapes": "x"}), "string indices"),
    bad_labelme("size that is text", labelme({"imageHeight": "x", "imageWidth": 32}),
                "is no size of a picture", "Export it again"),
    bad_image("labelme far corner", labelme({}, {"points": [[FAR, 1], [1, 2], [3, 4]]}),
              "a corner at x = 1e+300", "s/0.json", OWN),
    bad_image("labelme image that is missing", labelme({"imagePath": "nope.jpg"}),
              "the image is missing", "s/nope.jpg", OWN),
    bad_yolo("class of letters", yolo("a 0.1 0.1 0.5 0.1 0.5 0.5\n"), "class 'a' is not in",
             "s/labels/0.txt: line 1", "Add it there"),
    bad_yolo("box", yolo("0 0.5 0.5 0.1 0.1\n"), "a box, no polygon", "s/labels/0.txt: line 1",
             "Export segmentation labels"),
    bad_yolo("bytes", yolo(bytes(range(256))), "not a text in UTF-8", "s/labels/0.txt",
             "Export it again"),
    bad_yolo("name that is null", yolo(OK, "[a, null]"), "it has no names of classes",
             "s/data.yaml", "Add them"),
    bad_yolo("name that is no text", yolo(OK, "[a, no]"), "it has no names of classes",
             "s/data.yaml", "Add them"),
    bad_yolo("two classes of one name", yolo(OK, "[a, a]"), "two classes are called 'a'",
             "s/data.yaml", "Rename one"),
    bad_yolo("names of python", yolo(OK, "!!python/object:os.system [x]"),
             "it has no names of classes", "s/data.yaml", "Add them"),
    Case("cvat corners of letters", cvat('<polygon label="a" points="a,b;c,d;e,f"/>'),
         "a value is missing or wrong (could not convert", "s/annotations.xml: image 0.jpg",
         "Export it again", command=OWN),
    Case("cvat region without corners", cvat('<polygon label="a"/>'), "'points' is missing",
         "s/annotations.xml: image 0.jpg", "Export it again", command=OWN),
    Case("cvat region without a name", cvat('<polygon label=" " points="1,1;9,1;9,9"/>'),
         "a region has no name of a class", "s/annotations.xml: image 0.jpg", "Export it again",
         command=OWN),
]
# fmt: on
