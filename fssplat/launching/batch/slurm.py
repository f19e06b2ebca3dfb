"""A batch script of SLURM for one experiment: cluster/slurm.sh with its options and arguments."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fssplat.common.errors import InputError
from fssplat.launching import checks
from fssplat.launching.launch import LaunchRequest, plan_from
from fssplat.planning.limit import lead_s
from fssplat.planning.packing import machine_with_gpus
from fssplat.planning.plan import Plan

SCRIPT = Path(__file__).with_name("slurm.sh")
BODY = "# shellcheck disable"  # how the line after the options of the script begins
ARRAY = re.compile(r"([1-9]\d{0,4})(%[1-9]\d{0,4})?")
OPTION = re.compile(r"[a-z][a-z-]*(=\S.*)?")
SUBMIT_S = 120.0  # that sbatch may take


@dataclass(frozen=True)
class BatchOptions:
    """What a job asks SLURM for. Empty texts and None ask for nothing: the site decides."""

    name: str
    limit_s: float | None = None
    array: str = ""  # number of tasks, e.g. 16, or 16%4 for at most four at once
    nodes: int = 1
    gpus: int | None = None  # on each node
    cpus: int | None = None  # on each node
    partition: str = ""
    account: str = ""
    qos: str = ""
    mem: str = ""  # on each node, e.g. 64G
    container: str = ""
    others: tuple[str, ...] = ()  # further options of sbatch, e.g. constraint=a100
    setup: tuple[str, ...] = ()  # lines of the script that run first, e.g. module load cuda

    def check(self) -> None:
        """Raises InputError."""
        if self.array and not ARRAY.fullmatch(self.array):
            raise InputError(
                f"--array {self.array}: not a number of tasks. Give e.g. 16, or 16%4 for at most "
                "four at the same time."
            )
        if self.array and self.nodes > 1:
            raise InputError(
                f"--nodes {self.nodes}: a task of an array has one node. Leave out --nodes or "
                "--array."
            )
        for one in self.others:
            if not OPTION.fullmatch(one):
                raise InputError(
                    f"--option {one}: not an option of sbatch. Give it without dashes, "
                    "e.g. --option constraint=a100"
                )

    @property
    def asks_for_gpus(self) -> bool:
        return bool(self.gpus) or any("gpu" in one or "gres" in one for one in self.others)

    def lines(self) -> list[str]:
        """The options as sbatch reads them, without dashes."""
        tasks, _, at_once = self.array.partition("%")
        limit = None if self.limit_s is None else max(1, round(self.limit_s / 60))
        chosen = {
            "job-name": self.name,
            "partition": self.partition,
            "time": limit,
            "signal": "" if self.limit_s is None else f"B:TERM@{round(lead_s(self.limit_s))}",
            "array": tasks and f"0-{int(tasks) - 1}" + (f"%{at_once}" if at_once else ""),
            "nodes": self.nodes,
            "gpus-per-node": self.gpus,
            "cpus-per-task": self.cpus,
            "account": self.account,
            "qos": self.qos,
            "mem": self.mem,
        }
        given = [f"{name}={value}" for name, value in chosen.items() if value not in ("", None)]
        return [*given, *self.others]


def checked_plan(request: LaunchRequest, options: BatchOptions) -> Plan:
    """The plan of the launch, after the checks that need none of the job's machines.

    Raises InputError or StoreAwayError. Makes no store.
    """
    machine = machine_with_gpus(options.nodes if options.asks_for_gpus else 0)
    plan, store = plan_from(request, machine)
    checks.check_weights(plan)
    checks.check_data(plan)
    checks.check_writable(store)
    checks.check_disk(store)
    return plan


def batch_script(options: BatchOptions, command: str, arguments: Sequence[str]) -> str:
    """The script that launches with these arguments. `command` is the one that makes it again.

    Raises InputError for options that sbatch would refuse.
    """
    options.check()
    head, mark, body = SCRIPT.read_text(encoding="utf-8").partition(BODY)
    chosen = options.lines()
    names = {one.partition("=")[0] for one in chosen}
    kept = [line for line in head.splitlines() if line.startswith("#SBATCH --")]
    kept = [line for line in kept if line[10:].partition("=")[0] not in names]
    lines = ["#!/bin/bash", f"# Made by: {command}"]
    lines += [*(f"#SBATCH --{one}" for one in chosen), *kept]
    if options.container:
        lines.append(f"export CONTAINER={shlex.quote(options.container)}")
    elif shutil.which("fssplat") is None:  # sbatch passes the environment on, with its PATH
        lines.append(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH")
    lines += [*options.setup, f"set -- {shlex.join(arguments)}"]
    return "\n".join(lines) + f"\n{mark}{body}"


def submit(script: str) -> str:
    """Send a script to SLURM. Returns the job's number. Raises InputError."""
    try:
        done = subprocess.run(
            ["sbatch", "--parsable"], input=script, text=True, capture_output=True, check=False,
            timeout=SUBMIT_S,
        )  # fmt: skip
    except FileNotFoundError:
        raise InputError(
            "sbatch: not found, so this machine has no SLURM. Run the command on a login node, or "
            "print the script with --dry-run."
        ) from None
    except subprocess.TimeoutExpired:
        raise InputError(f"sbatch: no answer within {SUBMIT_S:g} s. Try again later.") from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"sbatch refused the job: {reason.removeprefix('sbatch: error: ')}")
    return done.stdout.strip().partition(";")[0]
