"""Experiment files that cannot be read: YAML, encodings, kinds of files, `extends`, `${...}`."""

import os

from tests.bad_inputs.case import Case, Folder, Make, all_of, experiment, file, nothing

DRY_RUN = "launch x.yaml --dry-run"
GRID = "dataset: synthetic\ngrid: {method: [prior]}\n"


def text(content: str | bytes) -> Make:
    return file("x.yaml", content)


def bomb(levels: int = 30) -> str:
    """Nested aliases that would stand for 9 ** `levels` values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]\n"]
    for level in range(1, levels):
        alias = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{alias}]\n")
    return "".join(lines) + GRID


def extended(content: str | bytes, extends: str = "base.yaml") -> Make:
    """x.yaml that extends base.yaml, which has this content."""
    return all_of(file("base.yaml", content), text(f"extends: {extends}\n{GRID}"))


def chain(length: int) -> Make:
    """Files that extend one another; the last one is missing."""

    def make(folder: Folder) -> None:
        for number in range(length):
            folder.write(f"b{number}.yaml", f"extends: b{number + 1}.yaml\n")
        folder.write("x.yaml", f"extends: b0.yaml\n{GRID}")

    return make


def link_to_itself(folder: Folder) -> None:
    (folder.path / "x.yaml").symlink_to("x.yaml")


def pipe(folder: Folder) -> None:
    os.mkfifo(folder.path / "x.yaml")


def base_pipe(folder: Folder) -> None:
    os.mkfifo(folder.path / "base.yaml")
    folder.write("x.yaml", f"extends: base.yaml\n{GRID}")


def unreadable(folder: Folder) -> None:
    (folder.path / "x.yaml").symlink_to("/proc/self/mem")


# fmt: off
CASES = [
    # ------------------------------------------------------------ syntax
    Case("tab as indent", text("dataset: synthetic\ngrid:\n\tmethod: [prior]\n"),
         "line 3, column 1: a tab or another", "x.yaml", "Fix the YAML there"),
    Case("open quote", text('name: "abc\n' + GRID), "line 4, column 1: found unexpected end of",
         "x.yaml", "Fix the YAML there", command="status x.yaml"),
    Case("open brace", text("dataset: synthetic\ngrid: {method: [prior]\n"),
         "line 3, column 1: did not find expected ','", "x.yaml", "Fix the YAML there",
         command="gc x.yaml"),
    Case("colon missing", text("dataset synthetic\ngrid: {method: [prior]}\n"),
         "line 2, column 5: mapping values are not", "x.yaml", "Fix the YAML there",
         command="sync x.yaml"),
    Case("space after colon missing", text("dataset:synthetic\ngrid: {method: [prior]}\n"),
         "line 2, column 5: mapping values are not", "x.yaml", "Fix the YAML there"),
    Case("wrong indent", text("grid:\n  method: [prior]\n fold: [0]\n"),
         "line 3, column 2: did not find expected key", "x.yaml", "Fix the YAML there",
         command="ui x.yaml"),
    Case("key twice", text(GRID + "dataset: pascal-5i\n"), "line 3, column 1: found duplicate key",
         "x.yaml", "Fix the YAML there"),
    Case("inner key twice", text(GRID + "training: {steps: 1, lr: 1, steps: 2}\n"),
         "line 3, column 29: found duplicate key steps", "x.yaml", "Fix the YAML there"),
    Case("unknown alias", text(GRID + "name: *nothing\n"),
         "line 3, column 7: found undefined alias", "x.yaml", "Fix the YAML there"),
    Case("alias of itself", text("dataset: synthetic\ngrid: &g {method: [prior], shot: *g}\n"),
         "line 2, column 7: an alias that contains", "x.yaml", "Fix the YAML there"),
    Case("alias bomb", text(bomb()), "more than 10000 values, counted with those", "x.yaml",
         "Give fewer values"),
    Case("alias bomb in base", extended(bomb()), "more than 10000 values, counted with those",
         "base.yaml", "Give fewer values", command="status x.yaml"),
    Case("merge of a number", text(GRID + "training: {<<: 3, steps: 1}\n"),
         "line 3, column 16: expected a mapping or", "x.yaml", "Fix the YAML there"),
    Case("python object tag",
         text(GRID + 'name: !!python/object/apply:os.system ["touch pwned"]\n'),
         "line 3, column 7: a tag (!...) that is not", "x.yaml", "Fix the YAML there"),
    Case("unknown tag", text(GRID + "tracking: !secret abc\n"),
         "line 3, column 11: a tag (!...) that is not", "x.yaml", "Fix the YAML there"),
    Case("two documents", text(GRID + "---\n" + GRID), "line 3, column 1: a second document begins",
         "x.yaml", "Fix the YAML there"),
    Case("directive of yaml 9", text("%YAML 9.0\n---\n" + GRID),
         "line 1, column 1: found incompatible YAML", "x.yaml", "Fix the YAML there"),
    Case("nul byte", text(GRID + "name: a\0b\n"), "line 3, column 8: '\\x00' is not allowed in",
         "x.yaml", "Fix the YAML there"),
    Case("control character", text(GRID + "name: a\x1b[2Jb\n"),
         "line 3, column 8: '\\x1b' is not allowed in", "x.yaml", "Fix the YAML there"),
    Case("latin-1", text(GRID.encode() + "claim: äöü\n".encode("latin-1")),
         "not a text file in UTF-8", "x.yaml", "An experiment is a YAML mapping"),
    Case("utf-16", text(GRID.encode("utf-16")), "not a text file in UTF-8", "x.yaml",
         "An experiment is a YAML mapping"),
    Case("utf-32", text(GRID.encode("utf-32")), "not a text file in UTF-8", "x.yaml",
         "An experiment is a YAML mapping"),
    Case("empty file", text(""), "grid is missing", "x.yaml",
         "`fssplat settings grid` describes it"),
    Case("comments alone", text("# dataset: synthetic\n# grid: {}\n"), "grid is missing", "x.yaml",
         "`fssplat settings grid` describes it", command=DRY_RUN),
    Case("list at the top", text("- dataset: synthetic\n- grid: {method: [prior]}\n"),
         "an experiment is a mapping of settings, e.g", "x.yaml", "`dataset: synthetic`"),
    Case("text at the top", text("launch everything\n"),
         "an experiment is a mapping of settings, e.g", "x.yaml", "`dataset: synthetic`"),
    Case("number at the top", text("3\n"), "an experiment is a mapping of settings, e.g", "x.yaml",
         "`dataset: synthetic`"),
    Case("deep list", text("a: " + "[" * 100_000), "line 1, column 33: more than 30 lists and",
         "x.yaml", "Fix the YAML there"),
    Case("deep mapping", text("a: " + "{a: " * 5_000 + "1" + "}" * 5_000),
         "line 1, column 120: more than 30 lists and", "x.yaml", "Fix the YAML there"),
    Case("deep block", text("".join(" " * n + f"a{n}:\n" for n in range(1500))),
         "line 31, column 31: more than 30 lists and", "x.yaml", "Fix the YAML there"),
    Case("picture as yaml", text(b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
         "not a text file in UTF-8", "x.yaml", "An experiment is a YAML mapping"),
    Case("web page as yaml",
         text("<!DOCTYPE html>\n<html><head><title>404: Not Found</title></head></html>\n"),
         "line 2, column 23: mapping values are not", "x.yaml", "Fix the YAML there"),
    Case("python as yaml", text("import torch\n\nif __name__ == '__main__':\n    print({1: 2})\n"),
         "line 3, column 26: mapping values are not", "x.yaml", "Fix the YAML there"),
    Case("lfs pointer as yaml",
         text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"),
         "an experiment is a mapping of settings, e.g", "x.yaml", "`dataset: synthetic`"),
    Case("number of 5000 digits", text(GRID + f"training: {{steps: {'9' * 5000}}}\n"),
         "a number has more than 4,300 digits", "x.yaml", "Fix the YAML there"),
    Case("binary as name", text(GRID + "name: !!binary aGVsbG8=\n"),
         "binary text; a setting is a text, a number,", "x.yaml: name", "Fix the YAML there"),
    Case("set as list", text("dataset: synthetic\ngrid: {method: !!set {prior, panet}}\n"),
         "a set, a date or another value that no", "x.yaml: grid.method", "Fix the YAML there"),
    Case("number as key", text(GRID + "1: x\n"), "is not a setting", "x.yaml: 1",
         "Known: name, claim, dataset, train_on,"),
    Case("null as key", text(GRID + "null: x\n"), "a key that is not a name", "x.yaml",
         "Fix the YAML there"),
    Case("list as key", text(GRID + "? [a, b]\n: c\n"), "line 3, column 3: found unhashable key",
         "x.yaml", "Fix the YAML there"),
    Case("mapping as key", text(GRID + "? {a: b}\n: c\n"), "line 3, column 3: found unhashable key",
         "x.yaml", "Fix the YAML there"),
    Case("long key", text(GRID + "k" * 100_000 + ": 1\n"), "line 3, column 100001: could not find",
         "x.yaml", "Fix the YAML there"),
    Case("escape in a key", text(GRID + '"a\\e[2J\\e]0;x\\a": 1\n'),
         "a\\x1b[2J\\x1b]0;x\\x07 is not a setting", "x.yaml",
         "Known: name, claim, dataset, train_on,"),
    Case("line break in a key", text(GRID + '"a\\nfssplat: all fine": 1\n'),
         "a fssplat: all fine is not a setting", "x.yaml",
         "Known: name, claim, dataset, train_on,"),
    Case("many wrong keys", text(GRID + "".join(f"wrong_key_{n}: 1\n" for n in range(500))),
         "is not a setting", "x.yaml: wrong_key_0", "Known: name, claim, dataset, train_on,"),
    # ------------------------------------------------------------ the file
    Case("folder as yaml", lambda folder: (folder.path / "x.yaml").mkdir(), "not a file", "x.yaml",
         "See experiments/ for examples"),
    Case("pipe as yaml", pipe, "not a file", "x.yaml", "See experiments/ for examples"),
    Case("link to itself", link_to_itself, "not a file", "x.yaml", "See experiments/ for examples"),
    Case("unreadable file", unreadable, "cannot be read (Input/output error)", "x.yaml",
         "Check the file and its permissions"),
    Case("missing file", nothing, "no such experiment file", "x.yaml",
         "See experiments/ for examples", command=DRY_RUN),
    Case("name without suffix", experiment(), "no such experiment file", "x",
         "Did you mean x.yaml?", command="plan x"),
    Case("path through a file", experiment(), "no such experiment file", "x.yaml/y.yaml",
         "See experiments/ for examples", command="status x.yaml/y.yaml"),
    Case("address as file", experiment(), "https:/host/x.yaml: no such experiment file",
         "https:/host/x.yaml:", "See experiments/ for examples",
         command="launch https://host/x.yaml --dry-run"),
    Case("name too long", experiment(), "no such experiment file",
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
         "See experiments/ for examples", command=f"plan {'x' * 5000}.yaml"),
    Case("name with a bracket", experiment(), "no such experiment file", "[x].yaml",
         "See experiments/ for examples", command="plan '[x].yaml'"),
    # ------------------------------------------------------------ extends
    Case("extends nothing", text(f"extends: nothing.yaml\n{GRID}"),
         "'nothing.yaml' is no file beside it", "x.yaml: extends",
         "Name one file, as in `extends:"),
    Case("extends itself", text(f"extends: x.yaml\n{GRID}"), "extends itself (x.yaml -> x.yaml)",
         "x.yaml", "Remove one `extends`"),
    Case("extends in a circle of three",
         all_of(file("b.yaml", "extends: c.yaml\n"), file("c.yaml", "extends: x.yaml\n"),
                text(f"extends: b.yaml\n{GRID}")),
         "extends itself (x.yaml -> b.yaml -> c.yaml", "x.yaml", "Remove one `extends`"),
    Case("extends a folder", text(f"extends: .\n{GRID}"), "'.' is no file beside it",
         "x.yaml: extends", "Name one file, as in `extends:"),
    Case("extends a pipe", base_pipe, "'base.yaml' is no file beside it", "x.yaml: extends",
         "Name one file, as in `extends:"),
    Case("extends two files", text(f"extends: [a.yaml, b.yaml]\n{GRID}"),
         "['a.yaml', 'b.yaml'] is no file beside it", "x.yaml: extends",
         "Name one file, as in `extends:"),
    Case("extends a number", text(f"extends: 3\n{GRID}"), "3 is no file beside it",
         "x.yaml: extends", "Name one file, as in `extends:"),
    Case("extends an empty name", text(f"extends: ''\n{GRID}"), "'' is no file beside it",
         "x.yaml: extends", "Name one file, as in `extends:"),
    Case("extends an address", text(f"extends: https://host/base.yaml\n{GRID}"),
         "'https://host/base.yaml' is no file beside", "x.yaml: extends",
         "Name one file, as in `extends:"),
    Case("extends a variable", text(f"extends: ${{oc.env:NO_SUCH_BASE}}\n{GRID}"),
         "'${oc.env:NO_SUCH_BASE}' is no file beside", "x.yaml: extends",
         "Name one file, as in `extends:"),
    Case("extends a long chain", chain(100), "'b100.yaml' is no file beside it",
         "b99.yaml: extends", "Name one file, as in `extends:"),
    Case("broken base", extended("training: {steps: [1\n"),
         "line 2, column 1: did not find expected ','", "base.yaml", "Fix the YAML there"),
    Case("base is a list", extended("[1, 2]\n"), "an experiment is a mapping of settings, e.g",
         "base.yaml", "`dataset: synthetic`"),
    Case("unknown key in base", extended("trainin: {steps: 3}\n"), "is not a setting",
         "x.yaml: trainin", "Did you mean training?"),
    Case("wrong value in base",
         all_of(experiment("base.yaml", training="{steps: many}"), text("extends: base.yaml\n")),
         "(got 'many')", "x: panet: training.steps", "should be a valid integer, unable to"),
    # ------------------------------------------------------------ ${...}
    Case("unset variable", text(GRID + "store: ${oc.env:NO_SUCH_VARIABLE}\n"),
         "Environment variable 'NO_SUCH_VARIABLE' not", "x.yaml: store",
         "Name a setting, as in ${name}, or a"),
    Case("unknown reference", text(GRID + "store: ${nothing}\n"),
         "Interpolation key 'nothing' not found", "x.yaml: store",
         "Name a setting, as in ${name}, or a"),
    Case("unknown resolver", text(GRID + "store: ${run:whoami}\n"),
         "Unsupported interpolation type run", "x.yaml: store",
         "Name a setting, as in ${name}, or a"),
    Case("open reference", text(GRID + "store: ${oc.env\n"), "a ${...} that cannot be read",
         "x.yaml: store", "Fix the YAML there"),
    Case("references in a circle", text(GRID + "store: ${name}\nname: ${store}\n"),
         "Recursive interpolation detected", "x.yaml: store",
         "Name a setting, as in ${name}, or a"),
    Case("reference to a section", text(GRID + "store: ${grid}\n"),
         "Input should be a valid string", "x.yaml: store", "should be a valid string"),
    Case("missing value", text(GRID + "store: ???\n"), "??? marks a value that is missing",
         "x.yaml: store", "Give it"),
]
# fmt: on
