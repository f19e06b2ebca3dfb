"""Built data sets, weights, checkpoints, stores and addresses that cannot be right."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bad_inputs.case import Case, Folder, Make, all_of, experiment, file, nothing
from tests.fakes.damages import TEXTS

DRY_RUN = "launch x.yaml --dry-run"
INFO, INDEX, SHARD = "data/dataset.json", "data/index.parquet", "data/train-000000.tar"
REBUILD = "--out data --overwrite`"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n"
PICKLE = b"\x80\x04cos\nsystem\n(S'touch hacked'\ntR."


# ------------------------------------------------------------------ built data sets


def built(change: Callable[[Path], object]) -> Make:
    return lambda folder: change(folder.copied_data())


def info(**values: Any) -> Make:
    """dataset.json with other values."""

    def change(data: Path) -> None:
        path = data / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}))

    return built(change)


def shard(**values: Any) -> Make:
    """dataset.json with other values of its first shard."""

    def change(data: Path) -> None:
        path = data / "dataset.json"
        whole = json.loads(path.read_bytes())
        whole["shards"][0].update(values)
        path.write_text(json.dumps(whole))

    return built(change)


def column(name: str, value: Any) -> Make:
    """index.parquet with another value in its first row, and a fingerprint that fits."""

    def change(data: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from fssplat.data.index import DatasetInfo, fingerprint_of

        path, about = data / "index.parquet", data / "dataset.json"
        table = pq.read_table(path)
        place = table.schema.get_field_index(name)
        kind = table.schema.field(place)
        values = pa.array([value, *table[name].to_pylist()[1:]], kind.type)
        table = table.set_column(place, kind, values)
        pq.write_table(table, path)
        found = DatasetInfo.from_json(about.read_text(), "")
        digest = fingerprint_of(found.name, found.classes, table, found.folds)
        about.write_text(json.dumps({**json.loads(about.read_text()), "fingerprint": digest}))

    return built(change)


def replaced(name: str, make: Callable[[Path], object]) -> Make:
    """A file of the data set that is something else."""

    def change(data: Path) -> None:
        (data / name).unlink()
        make(data / name)

    return built(change)


def bad_info(name: str, make: Make, what: str = "not a dataset.json of fssplat",
             where: str = INFO, to_do: str = REBUILD) -> Case:  # fmt: skip
    return Case(f"data set: {name}", make, what, where, to_do, command="data info data")


def bad_index(name: str, make: Make, what: str, where: str = INDEX) -> Case:
    return bad_info(name, make, what, where)


# ------------------------------------------------------------------ weights and stores


def weights(content: str | bytes | Callable[[Path], object], name: str = "w.pth") -> Make:
    def make(folder: Folder) -> None:
        if callable(content):
            content(folder.path / name)
        else:
            folder.write(name, content)
        folder.experiment(
            grid="{method: [panet], backbone: [resnet50]}",
            backbones=f"{{resnet50: {{weights: {name}}}}}",
        )

    return make


def checkpoint(content: str | bytes | Callable[[Path], object]) -> Make:
    def make(folder: Folder) -> None:
        weights(content, "c.safetensors")(folder)
        folder.experiment(
            training="{steps: 2, batch: 1, size: 65, checkpoint: c.safetensors}",
        )

    return make


def tensors(header: Any) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


def torch_file(content: Any) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        import torch

        torch.save(content, path)

    return make


def bad_weights(name: str, make: Make, what: str, to_do: str, where: str = "w.pth") -> Case:
    return Case(f"weights: {name}", make, what, where, to_do, command=DRY_RUN)


def bad_checkpoint(name: str, make: Make, what: str, to_do: str) -> Case:
    return Case(f"checkpoint: {name}", make, what, "c.safetensors", to_do, command=DRY_RUN)


def store_is_a_file(command: str) -> Case:
    make = all_of(experiment(), file("store", "a file"))
    return Case(f"store that is a file: {command}", make, "is a file, not a folder", "store /",
                "Give another with --set store=<folder>", command=command)  # fmt: skip


def bad_tracking(name: str, address: str, what: str, to_do: str) -> Case:
    make = experiment(tracking=json.dumps(address))  # JSON is YAML
    return Case(f"tracking: {name}", make, what, "tracking", to_do, command=DRY_RUN)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
MLFLOW = "Give sqlite:///<file>.db, postgresql://..., or http://<server>"
# fmt: off
CASES = [
    *(bad_info(f"dataset.json: {kind}", replaced("dataset.json", lambda path, text=text:
               path.write_bytes(text))) for kind, text in TEXTS.items()),
    bad_info("dataset.json that is a folder", replaced("dataset.json", Path.mkdir),
             "cannot be read (Is a directory)", to_do="Check the folder"),
    bad_info("dataset.json that is a pipe", replaced("dataset.json", os.mkfifo),
             "it is a pipe or a device", to_do="Check the folder"),
    bad_info("dataset.json without end",
             replaced("dataset.json", lambda path: path.symlink_to("/dev/zero")),
             "it is a pipe or a device", to_do="Check the folder"),
    bad_info("dataset.json that cannot be read",
             replaced("dataset.json", lambda path: path.symlink_to("/proc/self/mem")),
             "cannot be read (Input/output error)", to_do="Check the folder"),
    bad_info("of a newer version", info(format_version=99), "format version 99"),
    bad_info("without a class", info(classes=[])),
    bad_info("classes that are text", info(classes="abc")),
    bad_info("of two classes with one name", info(classes=["a"] * 20), "from different builds",
             "data:"),
    bad_info("counts that are negative", info(counts={"train": -1, "val": 60}),
             "the counts in dataset.json differ", "data:"),
    bad_info("counts of an unknown split", info(counts={"training": 40, "val": 60})),
    bad_info("labels of an unknown kind", info(labels="colour")),
    bad_info("unknown key", info(extra=1)),
    bad_info("folds of unknown classes", info(folds=[{"novel": [99], "base": [1]}])),
    bad_info("fingerprint that is a path", info(fingerprint="../../x"), "'../../x' cannot be used",
             to_do="needed is 16 hexadecimal digits"),
    bad_info("fingerprint of another", info(fingerprint="0" * 16), "from different builds",
             "data:"),
    bad_info("shard elsewhere", shard(file="../x.tar"), "'../x.tar' cannot be used",
             to_do="needed is a name such as"),
    bad_info("shard with a path", shard(file="/etc/passwd"), "'/etc/passwd' cannot be used",
             to_do="needed is a name such as"),
    bad_info("shard of negative bytes", shard(bytes=-5)),
    bad_info("shard of huge bytes", shard(bytes=10**30), "dataset.json says 1,000,000", SHARD),
    bad_info("shard of other samples", shard(samples=1), "do not match", "data:"),
    bad_index("index that is empty", replaced("index.parquet", lambda path: path.write_bytes(b"")),
              "cut short or not Parquet"),
    bad_index("index that is a page",
              replaced("index.parquet", lambda path: path.write_text("<html>")),
              "cut short or not Parquet"),
    bad_index("index that is missing", built(lambda data: (data / "index.parquet").unlink()),
              "index.parquet is missing", "data:"),
    bad_info("index that is a pipe", replaced("index.parquet", os.mkfifo),
             "it is a pipe or a device", INDEX, "Check its permissions"),
    bad_index("offset outside of the shard", column("jpg_at", 10**15), "not inside the shard"),
    bad_index("offset below zero", column("png_at", -5), "not inside the shard"),
    bad_index("size of nothing", column("png_size", 0), "not inside the shard"),
    bad_index("shard that is not listed", column("shard", 99), "do not match", "data:"),
    bad_index("unknown split", column("split", "nowhere"), "its split is not one of"),
    bad_index("height below zero", column("height", -5), "not those of an image"),
    bad_index("classes without pixels", column("classes", [999]), "not of the same number"),
    bad_index("key that is a path", column("key", "../x"), "other characters than letters"),
    bad_index("key that is empty", column("key", None), "column key has an empty cell"),
    bad_index("shard that is missing", built(lambda data: (data / "train-000000.tar").unlink()),
              "this shard is missing", SHARD),
    bad_index("shard that is cut", built(lambda data: os.truncate(data / "train-000000.tar", 9)),
              "the shard has 9 bytes", SHARD),
    Case("data set behind ftp", nothing, "does not answer", "ftp://127.0.0.1",
         "Check the address", command="data info ftp://127.0.0.1:1/x"),
    Case("data set of another name", all_of(info(name="pascal-5i"), experiment()),
         "contains pascal-5i, not synthetic", "data:", "Set datasets.synthetic.root"),
    # ------------------------------------------------------------ weights and checkpoints
    bad_weights("empty", weights(""), "it is empty", "Copy or download it again"),
    bad_weights("page", weights("<!DOCTYPE html>404"), "it is a web page", "Download the file"),
    bad_weights("pointer", weights(POINTER), "a git-LFS pointer", "Run `git lfs pull`"),
    bad_weights("pickle with code", weights(PICKLE), "loading it could run code", "torch.save("),
    bad_weights("folder", weights(Path.mkdir), "it is a folder", "Give the file in it"),
    bad_weights("pipe", weights(os.mkfifo), "it is a pipe or a device", "Give another file"),
    bad_weights("device", weights(lambda path: path.symlink_to("/dev/zero")),
                "it is a pipe or a device", "Give another file"),
    bad_weights("list", weights(torch_file([1])), "contains no named tensors", "is needed"),
    bad_weights("no tensors", weights(torch_file({})), "contains no named tensors", "is needed"),
    bad_weights("header beyond the end", weights((2**62).to_bytes(8, "little"), "w.safetensors"),
                "not a readable weight file", "Copy or download it again", "w.safetensors"),
    bad_weights("header that is nested", weights(tensors(b"[" * 100_000), "w.safetensors"),
                "not a readable weight file", "Copy or download it again", "w.safetensors"),
    bad_weights("negative shape", weights(tensors({"a": {**ONE, "shape": [-2]}}), "w.safetensors"),
                "not a readable weight file", "Copy or download it again", "w.safetensors"),
    bad_checkpoint("empty", checkpoint(""), "is empty", "Copy or download it again"),
    bad_checkpoint("pickle", checkpoint(PICKLE), "a pickle, which this program never opens",
                   "use `fssplat import-checkpoint"),
    bad_checkpoint("folder", checkpoint(Path.mkdir), "is a folder", "Give the file in it"),
    bad_checkpoint("pipe", checkpoint(os.mkfifo), "it is a pipe or a device", "Give another file"),
    bad_checkpoint("of another program", checkpoint(tensors({"a": ONE})),
                   "not a checkpoint of this program", "use `fssplat import-checkpoint"),
    # ------------------------------------------------------------ stores
    *(store_is_a_file(f"{command} x.yaml")
      for command in ("status", "gc", "retry", "stop", "report", "plan", "logs")),
    Case("store of a newer version",
         all_of(experiment(), file("store/store.json", '{"format": 2}')),
         "its store.json has format 2; this fssplat reads 1", "store /", "give another store",
         command=DRY_RUN),
    Case("store of another program", all_of(experiment(), file("store/store.json", '{"a": 1}')),
         "its store.json has format None; this fssplat reads 1", "store /", "give another store",
         command=DRY_RUN),
    Case("store in /proc", experiment(store="/proc/nowhere"), "cannot be written", "store /proc",
         "Give another with --set store=<folder>", command=DRY_RUN),
    Case("store of an unknown kind", experiment(store="gs://b/x"), "Please install gcsfs",
         "store gs://b/x", "or give a folder", command=DRY_RUN),
    # ------------------------------------------------------------ MLflow's address
    bad_tracking("unknown kind", "ftp://x", "not an address for MLflow", MLFLOW),
    bad_tracking("words", "nowhere at all", "not an address for MLflow", MLFLOW),
    bad_tracking("folder", "mlruns", "not an address for MLflow", MLFLOW),
    bad_tracking("port of letters", "http://127.0.0.1:port", "not an address (Port could not be",
                 "Give http://<server>:<port>"),
    bad_tracking("port out of range", "http://127.0.0.1:99999", "not an address (Port out of range",
                 "Give http://<server>:<port>"),
    bad_tracking("half an address", "http://[::1", "not an address (Invalid IPv6 URL)",
                 "Give http://<server>:<port>"),
    bad_tracking("no host", "http://", "names no host", "Give http://<server>:<port>"),
    bad_tracking("space", "http://a b:5", "it has a space or a line break", "Remove it"),
    bad_tracking("line break", "http://127.0.0.1:1/\nx", "it has a space or a line break",
                 "Remove it"),
    bad_tracking("copied password", "postgresql://u:***@127.0.0.1:1/x", "u:***@",
                 "write the password in place of ***"),
    bad_tracking("missing driver", "mysql://u@127.0.0.1/x", "its driver is not installed",
                 "or give sqlite:///<file>.db"),
    bad_tracking("folder of nothing", "sqlite:////proc/no/a.db", "cannot be written",
                 "Give another with --set tracking"),
    Case("tracking: text file", all_of(file("a.db", "no database " * 90),
                                       experiment(tracking="'sqlite:///a.db'")),
         "file is not a database", "tracking sqlite:///", "or give another with --set tracking",
         command=DRY_RUN),
]
# fmt: on
